"""What a worker is asked to compute, and the inputs that all implementations share.

Inputs depend on lengths alone, so that every process makes the same ones by itself. Letters: C
latent channels, T latent frames, V of them valid (the piece and its headroom).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sa3_core.checkpoints.load import find_sample_size
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.errors import CheckpointError
from sa3_core.files.published import DTYPES
from sa3_core.geometry import HOP, LATENT_CHANNELS, target_frames, valid_frames
from sa3_core.networks.conditioning import Conditioner
from sa3_core.networks.config import ModelConfig
from sa3_core.sampling.sample import schedule_for
from sa3_core.sampling.settings import SampleSettings
from sa3_core.text.conditioning import TEXT_WIDTH

PROMPT_TOKENS = 10
STEPS = 8
NO_FLASH = ", no flash-attn"


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        part: `generation` (DiT and sampler), `encode`, `decode`, `text` or `pipeline`.
        folder: of the checkpoint.
        dtype: a key of DTYPES, of weights and computation.
        seconds: length of the piece.
        steps: of the sampler.
        chunk: latents per chunk of the autoencoder, None = whole.
        device: `cpu` or `cuda`.
        mode: `eager`, `compile`, `compile + graph` or `graph`, which stands for CUDA graphs.
        flash: whether flash-attn may be used where it is installed.
    """

    part: str
    folder: str
    dtype: str
    seconds: float = 0.0
    steps: int = STEPS
    chunk: int | None = None
    device: str = "cpu"
    mode: str = "eager"
    flash: bool = True

    @property
    def path(self) -> Path:
        """The checkpoint's folder."""
        return Path(self.folder)

    @property
    def weights(self) -> tuple[str, ...]:
        """Jobs that agree in this use the same weights."""
        part = "same" if self.part in ("encode", "decode") else self.part
        return part, self.folder, self.dtype, self.device, self.mode

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as torch has it."""
        return DTYPES[self.dtype]


@dataclass(frozen=True, eq=False)
class GenerationInputs:
    """Inputs of one generation on pingpong steps.

    Attributes:
        total: T.
        valid: V.
        tokens: [1, PROMPT_TOKENS, 768], the encoded prompt.
        noise: `steps` tensors [1, C, T], the first one to start from.
        sigmas: [steps + 1].
    """

    total: int
    valid: int
    tokens: Tensor
    noise: list[Tensor]
    sigmas: Tensor


def is_ours(name: str) -> bool:
    """Whether an implementation is this pack, in whatever mode."""
    return name.split()[0] == "ours"


def implementation_job(name: str, job: Job) -> tuple[str, Job]:
    """The worker that computes for an implementation's name, and the job it is given.

    Ours may be named with a mode and NO_FLASH, as in `ours graph, no flash-attn`.
    """
    if not name.startswith("ours "):
        return name, job
    mode = name.removeprefix("ours ").removesuffix(NO_FLASH)
    return "ours", replace(job, mode=mode, flash=not name.endswith(NO_FLASH))


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard noise of a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model_config(folder: Path) -> ModelConfig:
    """Sizes and settings of a checkpoint of any kind."""
    try:
        return open_checkpoint(folder, ("dit",)).config
    except CheckpointError:  # an autoencoder alone
        return open_checkpoint(folder, ("same",)).config


def latent_frames(job: Job) -> int:
    """T of the job's piece with headroom."""
    return target_frames(job.seconds, find_sample_size(model_config(job.path)))


def generation_inputs(job: Job) -> GenerationInputs:
    """What every implementation is given for `generation`."""
    config = model_config(job.path)
    settings = SampleSettings(steps=job.steps).resolve("rf_denoiser")
    total = target_frames(job.seconds, find_sample_size(config))
    return GenerationInputs(
        total=total,
        valid=valid_frames(job.seconds, total),
        tokens=drawn((1, PROMPT_TOKENS, TEXT_WIDTH), 1),
        noise=[drawn((1, LATENT_CHANNELS, total), 10 + step) for step in range(job.steps)],
        sigmas=schedule_for(config, settings, (job.seconds,))[0],
    )


def padded_context(conditioner: Conditioner, inputs: GenerationInputs, seconds: float) -> Tensor:
    """The context as the peers take it: prompt, learned padding, duration, [1, 257, 768]."""
    duration = conditioner.duration((seconds,))
    filler = conditioner.state_dict()["conditioners.prompt.padding_embedding"].float()
    count = conditioner.config.max_prompt_tokens - inputs.tokens.shape[1]
    return torch.cat([inputs.tokens, filler.expand(1, count, -1), duration[:, None]], dim=1)


def latent_input(job: Job) -> Tensor:
    """[1, C, T] for `decode`."""
    return drawn((1, LATENT_CHANNELS, latent_frames(job)), 2)


def audio_input(job: Job) -> Tensor:
    """[1, 2, 4096 T] for `encode`: noise under a slow swell."""
    samples = latent_frames(job) * HOP
    swell = F.interpolate(drawn((1, 2, 9), 4), size=samples, mode="linear")
    return 0.1 * drawn((1, 2, samples), 3) * swell


def prompt_ids(job: Job) -> list[int]:
    """PROMPT_TOKENS token ids that every vocabulary holds."""
    return [5 + 7 * number % 400 for number in range(PROMPT_TOKENS)]
