"""What a net looks like: its sizes, and what a model's config says about using it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

HEAD_DIM = 64

Objective = Literal["rf_denoiser", "rectified_flow"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of a diffusion transformer.

    Attributes:
        width: D, channels of a token.
        depth: number of blocks.
        heads: attention heads of 64 channels.
        differential: every attention is a difference of two.
        memory_tokens: learned tokens in front of the latent frames.
        ff_mult: inner width of the feed-forward in units of D.
    """

    width: int
    depth: int
    heads: int
    differential: bool
    memory_tokens: int = 64
    ff_mult: int = 4
    channels: int = 256
    cond_width: int = 768
    local_channels: int = 257
    time_features: int = 256


@dataclass(frozen=True)
class ResamplerConfig:
    """One SAME resampling block (encoder or decoder).

    Attributes:
        channels: patched audio channels on the outside (512).
        width: D inside the block.
        kernel: taps of the mapping convolution (1 or 3).
        chunk: patches per attention chunk (SAME-S: 32, of 2 latents), or None with `window`.
        window: latents seen on each side (SAME-L: 1), or None with `chunk`.
        sinusoidal: the last `sinusoidal - 1` layers gate with sin(pi x).
        mask_noise: scale of the optional noise on the decoder's new tokens.
    """

    channels: int
    width: int
    depth: int
    kernel: int
    chunk: int | None
    window: int | None
    sinusoidal: int = 0
    ff_mult: int = 3
    mask_noise: float = 0.0

    def grid(self, stride: int) -> int:
        """Latents that a cut of the signal must be a multiple of; `stride` patches each."""
        return 1 if self.chunk is None else self.chunk // stride

    def halo(self, stride: int) -> int:
        """Latents on each side that decide a latent's result, rounded up to the grid."""
        if self.chunk is not None:  # chunks shifted by half reach one chunk further, no more
            return self.grid(stride)
        return self.depth * (self.window or 0) + self.kernel // 2


@dataclass(frozen=True)
class SAMEConfig:
    """Sizes of a SAME autoencoder: 2-channel audio to 256 latent channels, 4096 to 1."""

    encoder: ResamplerConfig
    decoder: ResamplerConfig
    stride: int = 16
    latent_channels: int = 256
    patch: int = 256
    audio_channels: int = 2

    @property
    def chunk_grid(self) -> int:
        """Latents that a cut must be a multiple of, for exact chunking."""
        return max(side.grid(self.stride) for side in (self.encoder, self.decoder))

    @property
    def halo(self) -> int:
        """Latents to compute on each side of a chunk, for exact chunking."""
        return max(side.halo(self.stride) for side in (self.encoder, self.decoder))


@dataclass(frozen=True)
class ModelConfig:
    """A whole checkpoint: the nets it holds and what its config file says about using them.

    Attributes:
        objective: `rf_denoiser` (post-trained) or `rectified_flow` (base); None = not stated.
        sample_size: longest piece in samples, headroom included.
        max_prompt_tokens: tokens of a prompt that the model was trained with.
        min_seconds, max_seconds: range of the duration embedding.
        shift: the `sampling_distribution_shift_options` of the file, None = default LogSNR.
        train_shift: its `distribution_shift_options`, which training alone follows; plays no part
            in what the model is.
    """

    dit: DiTConfig | None
    same: SAMEConfig | None
    objective: str | None = None
    sample_size: int | None = None
    max_prompt_tokens: int = 256
    min_seconds: float = 0.0
    max_seconds: float = 384.0
    shift: Mapping[str, Any] | None = field(default=None, hash=False)
    train_shift: Mapping[str, Any] | None = field(default=None, compare=False)
