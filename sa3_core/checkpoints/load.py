"""A loaded generator: the DiT, its conditioner and what is known about using them."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ..errors import InputError
from ..geometry import HOP, SAMPLE_RATE
from ..networks.compiled import COMPILERS, CompiledDiT, compile_dit
from ..networks.conditioning import Conditioner
from ..networks.dit import DiffusionTransformer
from ..networks.ops import Ops, TorchOps
from ..networks.placement import dit_dtype
from .infer import OBJECTIVES, ModelConfig
from .reader import Checkpoint, load_conditioner, load_dit, open_checkpoint
from .variants import VARIANTS, variant_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SA3Model:
    """What `sample_latent` needs of a model.

    Attributes:
        dit: the velocity net.
        conditioner: padding embedding and duration embedder, float32.
        config: sizes and settings.
        objective: `rf_denoiser` or `rectified_flow`.
        name: for messages.
        sample_size: longest latent in samples, headroom included.
        device: where the nets compute.
        dtype: what the DiT computes in.
        compiled: the DiT behind a compiler, used in its place; None = as it is.
    """

    dit: DiffusionTransformer
    conditioner: Conditioner
    config: ModelConfig
    objective: str
    name: str
    sample_size: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    compiled: CompiledDiT | None = None

    @property
    def net(self) -> DiffusionTransformer | CompiledDiT:
        """What predicts velocities."""
        return self.compiled or self.dit

    def compile(self, compiler: str) -> "SA3Model":
        """The same model, its DiT compiled when a length is first used.

        Args:
            compiler: `inductor` or `cudagraphs` (NVIDIA cards only).

        Raises:
            InputError: the compiler is unknown or needs another device.
        """
        if compiler not in COMPILERS:
            raise InputError(f"compiler is {compiler!r}; known: {', '.join(COMPILERS)}.")
        if compiler == "cudagraphs" and self.device.type != "cuda":
            raise InputError(f"cudagraphs needs an NVIDIA card; the model is on {self.device}.")
        return replace(self, compiled=compile_dit(self.dit, self.max_frames, COMPILERS[compiler]))

    @property
    def max_frames(self) -> int:
        """Longest latent, in frames."""
        return self.sample_size // HOP

    @property
    def max_seconds(self) -> float:
        """Longest piece, in seconds (120 for small, 380 for medium)."""
        return max_seconds(self.sample_size)


def max_seconds(sample_size: int) -> float:
    """The whole seconds that fit a model's sample_size."""
    return float(sample_size // SAMPLE_RATE)


def find_objective(config: ModelConfig, name: str, wanted: str = "auto") -> tuple[str, str]:
    """Decide the objective and say where it comes from.

    Args:
        config: the checkpoint's.
        name: file or folder name; `base` in it means rectified_flow.
        wanted: `auto` or an objective that the user insists on.

    Returns:
        (objective, source), source being `chosen`, `model_config.json` or `the file's name`.
    """
    if wanted != "auto":
        if wanted not in OBJECTIVES:
            raise InputError(f"objective is {wanted!r}; known: auto, {', '.join(OBJECTIVES)}.")
        return wanted, "chosen"
    if config.objective is not None:
        return config.objective, "model_config.json"
    variant = variant_of(name)
    if variant is not None and variant.objective is not None:
        return variant.objective, "the file's name"
    base = "_base" in name or "-base" in name
    return ("rectified_flow" if base else "rf_denoiser"), "the file's name"


def find_sample_size(config: ModelConfig) -> int:
    """The config's sample_size, or that of the published model with the same architecture."""
    if config.sample_size is not None:
        return config.sample_size
    medium = config.dit is not None and config.dit.differential
    size = VARIANTS["medium" if medium else "small-music"].sample_size
    assert size is not None
    return size


def load_model(
    path: Path,
    objective: str = "auto",
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    ops: Ops = TorchOps,
) -> SA3Model:
    """Load DiT and conditioner of a checkpoint, without a host.

    Args:
        path: model folder or .safetensors file.
        objective: `auto`, `rf_denoiser` or `rectified_flow`.
        dtype: of the weights and the computation; None = what `dit_dtype` chooses.
        device: where to put the weights.
        ops: layer classes.

    Raises:
        CheckpointError, ConfigError: see `open_checkpoint`.
    """
    checkpoint = open_checkpoint(path, need=("dit", "conditioner"))
    return model_from(checkpoint, objective, dtype, torch.device(device), ops)


def model_from(
    checkpoint: Checkpoint,
    objective: str,
    dtype: torch.dtype | None,
    device: torch.device,
    ops: Ops = TorchOps,
) -> SA3Model:
    """As `load_model`, from an opened checkpoint."""
    config = checkpoint.config
    assert config.dit is not None
    name = checkpoint.path.parent.name
    name = name if checkpoint.path.name == "model.safetensors" else checkpoint.path.stem
    found, source = find_objective(config, name, objective)
    dtype = dtype or dit_dtype(config.dit, found, checkpoint.dtype, device)
    meta = torch.device("meta")
    dit = DiffusionTransformer(config.dit, ops, meta, dtype)
    load_dit(checkpoint, dit, dtype)
    conditioner = Conditioner(config, ops, meta, torch.float32)
    load_conditioner(checkpoint, conditioner)
    log.info("%s: objective %s (from %s), computed in %s", name, found, source, dtype)
    return SA3Model(
        dit=dit.to(device),
        conditioner=conditioner.to(device),
        config=config,
        objective=found,
        name=name,
        sample_size=find_sample_size(config),
        device=device,
        dtype=dtype,
    )
