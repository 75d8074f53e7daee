"""A loaded generator: the DiT, its conditioner and what is known about using them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from ..checks import check_one_of
from ..errors import InputError
from ..geometry import HOP, SAMPLE_RATE
from .compiled import COMPILERS, CompiledDiT, compile_dit
from .conditioning import Conditioner
from .config import ModelConfig
from .dit import DiffusionTransformer


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
        check_files: raises CheckpointError where the weights' file is no longer what was loaded.
        storage: what its blocks' matrices are kept in, a name of STORAGES; None = `dtype`.
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
    check_files: Callable[[], None] = field(default=lambda: None, repr=False)
    storage: str | None = None

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
        check_one_of("compiler", compiler, COMPILERS)
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
