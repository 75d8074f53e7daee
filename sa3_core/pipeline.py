"""From prompts to finished audio in one call, for scripts and the command line.

    pipeline = load_pipeline(Path("models/small-music"))
    result = generate(pipeline, GenerateRequest(prompts=["warm pad"], seconds=[30.0]))
    result.takes[0].audio  # [2, 1323000] at result.takes[0].sample_rate

B batch, A audio channels, N samples, T latent frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .checkpoints.library import Library
from .checkpoints.load import load_autoencoder, load_model
from .codec.autoencode import OnProgress, decode, encode
from .codec.latent_file import Latents
from .editing.windows import Extension
from .networks.model import SA3Model
from .networks.same import SAMEAutoencoder
from .pieces import (
    GenerateRequest,
    Generation,
    Take,
    make_extended,
    make_pieces,
    warn_of_cut_prompts,
)
from .registry import AUTO
from .sampling.noise import Seeds
from .sampling.predictor import WeightSwitch
from .sampling.sample import sample_latent
from .sampling.settings import SampleSettings
from .sampling.start import StartLatent
from .text.conditioning import TextConditioning
from .text.encoder import T5Gemma, load_t5gemma


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Everything that text-to-audio takes.

    Attributes:
        model: DiT and conditioner.
        text: text encoder.
        autoencoder: SAME.
    """

    model: SA3Model
    text: T5Gemma
    autoencoder: SAMEAutoencoder


def load_pipeline(
    path: Path,
    text_encoder: Path | None = None,
    autoencoder: Path | None = None,
    objective: str = AUTO,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    storage: str | None = None,
) -> Pipeline:
    """Load a model with its text encoder and its autoencoder.

    Args:
        path: model folder or .safetensors file.
        text_encoder: T5Gemma folder or file; None = the model folder's `t5gemma-b-b-ul2`.
        autoencoder: another SAME or full model; None = the model's own. Both may be looked for
            in a models folder with `Library.text_encoder_for` and `autoencoder_for`.
        objective: `auto`, `rf_denoiser` or `rectified_flow`.
        dtype: of weights and computation; None = on a CPU float32 (the DiT: what `dit_dtype`
            chooses), else the file's. The text encoder computes in bfloat16 when asked to, else
            in float32 (float16 overflows).
        device: where everything goes.
        storage: `int8` or `fp8_e4m3`: the DiT's large matrices lie in 8 bits and are widened at
            use; text encoder and autoencoder stay as they are.

    Raises:
        InputError: a dtype or storage that is none, or that the device does not have.
        CheckpointError, ConfigError: see `open_checkpoint`; also when there is no text encoder or
            no autoencoder.
    """
    device = torch.device(device)
    alone = Library({})  # the model's own, or none
    encoder = text_encoder or alone.text_encoder_for(path)
    same = load_autoencoder(autoencoder or alone.autoencoder_for(path), dtype, device)
    model = load_model(path, objective, dtype, device, storage=storage)
    text_dtype = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
    return Pipeline(model, load_t5gemma(encoder, text_dtype, device), same)


@dataclass(frozen=True, eq=False)
class _PipelineNets:
    """A pipeline with how to run it, as `pieces` asks for it."""

    pipeline: Pipeline
    chunk: int | None
    noise_seed: int | None
    switch: WeightSwitch | None

    @property
    def objective(self) -> str:
        return self.pipeline.model.objective

    @property
    def sample_size(self) -> int:
        return self.pipeline.model.sample_size

    def resolve(self, settings: SampleSettings) -> SampleSettings:
        return settings.resolve(self.objective)

    def encode_prompts(self, prompts: Sequence[str], label: str) -> TextConditioning:
        limit = self.pipeline.model.config.max_prompt_tokens
        tokenized = self.pipeline.text.tokenize(prompts, limit)
        warn_of_cut_prompts(tokenized, label, limit)
        return self.pipeline.text.encode_once([prompt.ids for prompt in tokenized])

    def encode(self, audio: Tensor, on_progress: OnProgress) -> Tensor:
        return encode(self.pipeline.autoencoder, audio, self.chunk, on_progress)

    def sample(
        self,
        start: StartLatent,
        settings: SampleSettings,
        texts: tuple[TextConditioning, TextConditioning | None],
        seeds: Seeds,
        on_progress: OnProgress,
    ) -> Tensor:
        return sample_latent(
            self.pipeline.model,
            start,
            settings,
            *texts,
            seeds,
            on_step=lambda step, steps, _: on_progress("sample", step + 1, steps),
            switch=self.switch,
        )

    def decode(self, latents: Latents, on_progress: OnProgress) -> list[Tensor]:
        return decode(self.pipeline.autoencoder, latents, self.chunk, self.noise_seed, on_progress)


def generate(
    pipeline: Pipeline,
    request: GenerateRequest,
    chunk: int | None = None,
    noise_seed: int | None = None,
    switch: WeightSwitch | None = None,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> Generation:
    """Make audio from prompts, and from a source where the request has one.

    Every item equals the same item made alone: a batch changes nothing.

    Args:
        pipeline: loaded nets.
        request: what to make.
        chunk: latent frames per chunk of the autoencoder; None = the whole at once, on CUDA what
            fits into half of the free memory. The result does not depend on it.
        noise_seed: turns the decoder's random terms on; item b draws them from this seed + b.
        switch: adapters (`adapter_switch`), already entered.
        on_progress: told (stage, done, total).

    Raises:
        SA3Error: whatever does not fit; see its children.
    """
    nets = _PipelineNets(pipeline, chunk, noise_seed, switch)
    return make_pieces(nets, request, on_progress)


def extend(
    pipeline: Pipeline,
    request: GenerateRequest,
    source: tuple[Tensor, int],
    extension: Extension,
    chunk: int | None = None,
    switch: WeightSwitch | None = None,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> tuple[Take, ...]:
    """Continue a source past the model's maximum, window by window.

    Args:
        pipeline: loaded nets.
        request: prompts, seeds and settings; no seconds and no edit. Every window after the first
            adds WINDOW_SEED to its item's seed.
        source: waveform [A, N] or [1, A, N] at any sample rate, and that rate.
        extension: how far and how.
        chunk, switch, on_progress: as for `generate`.

    Returns:
        One take per item at the source's rate and channels (stereo where it had more), its own
        samples untouched.

    Raises:
        InputError: lengths that leave nothing to make, or counts that do not fit.
        RegionError: a source that does not fill a latent frame.
    """
    nets = _PipelineNets(pipeline, chunk, None, switch)
    return make_extended(nets, request, source, extension, on_progress)
