"""SAME, the autoencoder: 44.1 kHz stereo to 256 latent channels, 4096 samples per frame, and back.

    audio [B, 2, N] -> patches of 256 -> mapping -> 17 tokens per latent -> transformer -> latent
    latent [B, 256, T] -> 17 tokens per latent -> transformer -> mapping -> patches -> audio

SAME-S attends within chunks of 2 latents, shifted by half in the second half of its layers; SAME-L
within a sliding window of one latent to each side. Nothing here depends on the batch or needs
memory beyond the tokens themselves: layers run in tiles (`same_resampler`, `same_layers`).

Letters: B batch, T latents, N = 4096 T samples, D width. State-dict keys are the published ones
with weight norm folded (`checkpoints.reader`).

Source: arXiv 2605.18613 (SAME).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from .config import SAMEConfig
from .layers import cast_to
from .ops import Ops, TorchOps
from .same_resampler import DecoderBlock, EncoderBlock, OnTile

BOTTLENECK_NOISE = 1e-3  # of running_std, the decoder's optional regularising noise
NOISE_SEEDS = 2**63


@dataclass(frozen=True)
class DecoderNoise:
    """The decoder's random terms for a whole signal; off unless asked for.

    Attributes:
        latent: [B, 256, T] float32, unit variance.
        tokens: [B, T on the grid, 16, D] float32, unit variance, or None (SAME-L).
    """

    latent: Tensor
    tokens: Tensor | None

    def slice(self, start: int, stop: int) -> "DecoderNoise":
        """The part that belongs to latents start..stop (`start` on the grid)."""
        if self.tokens is None:
            return DecoderNoise(self.latent[..., start:stop], None)
        end = self.tokens.shape[1] if stop >= self.latent.shape[-1] else stop
        return DecoderNoise(self.latent[..., start:stop], self.tokens[:, start:end])


def draw_decoder_noise(seed: int, shape: tuple[int, int, int], config: SAMEConfig) -> DecoderNoise:
    """Draw the decoder's noise on the CPU, one generator per item, so that batches do not matter.

    Item b uses seed + b; each draws the latent's noise first, then the new tokens'.

    Args:
        seed: any integer.
        shape: [B, 256, T] of the latent.
        config: of the autoencoder that will decode.

    Source: fixture `decode`; arXiv 2605.18613 (noise regularisation, mask noise).
    """
    batch, channels, frames = shape
    decoder = config.decoder
    latents, tokens = [], []
    for item in range(batch):
        generator = torch.Generator().manual_seed((seed + item) % NOISE_SEEDS)
        latents.append(torch.randn(channels, frames, generator=generator))
        if decoder.mask_noise:
            size = (frames + -frames % decoder.grid(config.stride), config.stride, decoder.width)
            tokens.append(torch.randn(size, generator=generator))
    return DecoderNoise(torch.stack(latents), torch.stack(tokens) if tokens else None)


class SoftNormBottleneck(nn.Module):
    """Affine map between the encoder's output and latents of unit scale, in float32."""

    scaling_factor: nn.Parameter
    bias: nn.Parameter
    running_std: nn.Parameter
    noise_scaling_factor: nn.Parameter

    def __init__(self, channels: int, device=None, dtype=None) -> None:
        super().__init__()
        for name, shape in (
            ("scaling_factor", (1, channels, 1)),
            ("bias", (1, channels, 1)),
            ("running_std", (1,)),
            ("noise_scaling_factor", (1, 0, 1)),  # unused, but part of the published files
        ):
            setattr(self, name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))

    def encode(self, x: Tensor) -> Tensor:
        """(x * scaling_factor + bias) / running_std, [B, 256, T] float32."""
        x = x.float()
        x = x * cast_to(self.scaling_factor, x) + cast_to(self.bias, x)
        return x / cast_to(self.running_std, x)

    def decode(self, z: Tensor, noise: Tensor | None) -> Tensor:
        """z * running_std (1 + noise term), [B, 256, T] float32."""
        z = z.float()
        std = cast_to(self.running_std, z)
        if noise is None:
            return z * std
        return z * std + cast_to(noise, z) * std * BOTTLENECK_NOISE


class _Side(nn.Module):
    """Gives the parts of the encoder or decoder their published names, `layers.<number>`."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)


def _nothing() -> None:
    """The `on_tile` of callers who do not count."""


class SAMEAutoencoder(nn.Module):
    """The autoencoder. Compute dtype and device are the input's; results are float32.

    Attributes:
        hop: audio samples of one latent frame (4096).
        chunk_grid: latents that a cut must be a multiple of, for exact chunking.
        halo: latents to add on each side of a chunk, for exact chunking.
        check_files: raises CheckpointError where the weights' file is no longer what was loaded.
    """

    check_files: Callable[[], None]

    def __init__(self, config: SAMEConfig, ops: Ops = TorchOps, device=None, dtype=None) -> None:
        super().__init__()
        self.config = config
        self.check_files = lambda: None
        encoder = EncoderBlock(config, ops, device, dtype)
        decoder = DecoderBlock(config, ops, device, dtype)
        channels = config.latent_channels
        out = ops.Linear(config.encoder.width, channels, device=device, dtype=dtype)
        into = ops.Linear(channels, config.decoder.width, device=device, dtype=dtype)
        self.encoder = _Side({"0": encoder, "2": out})
        self.decoder = _Side({"1": into, "3": decoder})
        self.bottleneck = SoftNormBottleneck(channels, device, dtype)
        self.hop = config.patch * config.stride
        self.chunk_grid, self.halo = config.chunk_grid, config.halo

    def encode_tiles(self, batch: int, latents: int, device: torch.device) -> int:
        """How often `encode` of that many latents calls `on_tile`."""
        return cast(EncoderBlock, self.encoder.layers["0"]).tiles(batch, latents, device)

    def decode_tiles(self, batch: int, latents: int, device: torch.device) -> int:
        """How often `decode` of that many latents calls `on_tile`."""
        return cast(DecoderBlock, self.decoder.layers["3"]).tiles(batch, latents, device)

    @torch.no_grad()
    def encode(self, audio: Tensor, on_tile: OnTile = _nothing) -> Tensor:
        """Audio [B, 2, N] at 44.1 kHz -> latent [B, 256, ceil(N / 4096)] float32.

        Zeros are appended to fill the last frame.

        Args:
            audio: N >= 1, in the dtype and on the device to compute in.
            on_tile: called after every tile; may raise to stop.
        """
        block, out = self.encoder.layers["0"], self.encoder.layers["2"]
        return self.bottleneck.encode(out(block(audio, on_tile)).transpose(1, 2))

    @torch.no_grad()
    def decode(
        self, latent: Tensor, noise: DecoderNoise | None = None, on_tile: OnTile = _nothing
    ) -> Tensor:
        """Latent [B, 256, T] -> audio [B, 2, 4096 * T] float32.

        Args:
            latent: T >= 1, in the dtype and on the device to compute in.
            noise: the decoder's random terms (`draw_decoder_noise`), None = off.
            on_tile: called after every tile; may raise to stop.
        """
        into, block = self.decoder.layers["1"], self.decoder.layers["3"]
        z = self.bottleneck.decode(latent, noise.latent if noise else None)
        tokens = into(z.to(latent.dtype).transpose(1, 2))
        return block(tokens, noise.tokens if noise else None, on_tile)
