"""The linear codec behind the demo's autoencoder: principal components of latent frames.

A block is a frame of both channels as one vector of 8192 samples, left before right. The codec
keeps NUMBERS of them, scaled half-way to unit variance, and spreads them over the 256 latent
channels, so that all channels look alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .sounds import FRAME, Audio

NUMBERS = 64
"""Per frame; more than 64 would not pass one attention head of the autoencoder."""
CHANNELS = 256
_SPARE = 96  # components beyond NUMBERS that the search carries along
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class LinearCodec:
    """Blocks to latents and back.

    Attributes:
        to_numbers: [NUMBERS, 8192].
        from_numbers: [8192, NUMBERS].
        spread: [256, NUMBERS], orthogonal columns of length sqrt(256 / NUMBERS).
        components: [8192, C] orthonormal, of more than NUMBERS.
        variances: [C] of blocks along `components`, falling.
    """

    to_numbers: Tensor
    from_numbers: Tensor
    spread: Tensor
    components: Tensor
    variances: Tensor

    def encode(self, audio: Audio) -> Tensor:
        """Latents [256, T] of audio [2, T * 4096]."""
        return self.spread @ self.to_numbers @ blocks_of(audio).T

    def decode(self, latents: Tensor) -> Tensor:
        """Audio [2, T * 4096] of latents [256, T]."""
        numbers = self.spread.T @ latents * (NUMBERS / CHANNELS)
        blocks = (self.from_numbers @ numbers).T
        return blocks.reshape(-1, 2, FRAME).transpose(0, 1).reshape(2, -1)


def blocks_of(audio: Audio) -> Tensor:
    """Audio [2, T * 4096] as blocks [T, 8192]."""
    frames = torch.from_numpy(audio).reshape(2, -1, FRAME)
    return frames.transpose(0, 1).reshape(-1, 2 * FRAME)


def fit_codec(sounds: Iterable[Audio]) -> LinearCodec:
    """The codec of some sounds; quiet ones count as much as loud ones."""
    blocks = [blocks_of(audio) for audio in sounds]
    even = torch.cat([part / part.square().mean().sqrt() for part in blocks])
    components, variances = principal(even, NUMBERS + _SPARE)
    scales = variances[:NUMBERS].clamp(min=float(variances[0]) * 1e-7) ** -0.25
    raw = torch.cat(blocks) @ components[:, :NUMBERS] * scales
    scales = scales / raw.square().mean().sqrt()  # latents of unit level
    draw = torch.randn(CHANNELS, NUMBERS, generator=torch.Generator().manual_seed(1))
    spread = torch.linalg.qr(draw)[0] * (CHANNELS / NUMBERS) ** 0.5
    kept = components[:, :NUMBERS]
    return LinearCodec(scales[:, None] * kept.T, kept / scales, spread, components, variances)


def principal(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Directions [D, count] in which rows [N, D] vary most, and their mean squares [count]."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(rows.shape[1], count, generator=generator)
    for _ in range(_ROUNDS):
        basis = torch.linalg.qr(rows.T @ (rows @ basis))[0]
    seen = rows @ basis
    values, rotation = torch.linalg.eigh(seen.T @ seen / len(rows))
    return (basis @ rotation).flip(1), values.flip(0)
