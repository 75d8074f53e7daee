"""Encoding and decoding in chunks whose joined result equals the whole signal's.

A chunk starts and ends on the autoencoder's grid and is computed with a halo on both sides that
covers everything its result depends on; the halo's own result is thrown away.

Letters: B batch, T latents, N audio samples, `hop` samples per latent (4096).

Source: arXiv 2605.18613 (receptive fields); upstream's 128/32 overlap is inexact and not used.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..networks.same import DecoderNoise, SAMEAutoencoder
from ..networks.same_resampler import OnTile

OnChunk = Callable[[int, int], None]  # (steps done, steps in all); may raise to stop


@dataclass(frozen=True)
class Chunk:
    """Latents [start, stop) to keep, out of [low, high) to compute."""

    low: int
    start: int
    stop: int
    high: int


def plan_chunks(total: int, chunk: int | None, grid: int, halo: int) -> list[Chunk]:
    """Cut `total` latents into as few chunks of at most `chunk` latents as possible, None = one.

    All are about as long, and what is computed for each is equally long, in whole grid steps: with
    tensors of another size a CPU's heap would keep memory for both.

    Raises:
        InputError: nothing to cut, or a chunk length below 1.
    """
    if total < 1:
        raise InputError(f"The signal has {total} latent frames; at least 1 is needed.")
    if chunk is not None and chunk < 1:
        raise InputError(f"is {chunk} latents; it must be 1 or more.", "chunk")
    end = total + -total % grid
    most = end if chunk is None else chunk + -chunk % grid
    size = math.ceil(total / math.ceil(total / most))
    size += -size % grid
    starts = range(0, total, size)
    spans = [(max(0, at - halo), min(at + size + halo, end)) for at in starts]
    window = max(high - low for low, high in spans)
    lows = [min(low, end - window) for low, _ in spans]
    return [
        Chunk(low, at, min(at + size, total), min(low + window, total))
        for low, at in zip(lows, starts, strict=True)
    ]


def decode_chunked(
    autoencoder: SAMEAutoencoder,
    latent: Tensor,
    chunk: int | None = None,
    *,
    noise: DecoderNoise | None = None,
    on_chunk: OnChunk | None = None,
    out_device: torch.device | str | None = None,
) -> Tensor:
    """Latent [B, 256, T] -> audio [B, 2, 4096 * T] float32, as `autoencoder.decode` gives it.

    Args:
        latent: on the device and in the dtype to compute in.
        chunk: latents per chunk (any number; rounded up to the grid), None = the whole at once.
        noise: the decoder's random terms for the whole signal.
        on_chunk: told after every tile (steps done, steps in all).
        out_device: where the audio is gathered, None = the latent's device.

    Raises:
        InputError: no latent frames, or a chunk length below 1.
    """
    total, hop = latent.shape[-1], autoencoder.hop
    plan = plan_chunks(total, chunk, autoencoder.chunk_grid, autoencoder.halo)
    channels = autoencoder.config.audio_channels
    shape = latent.shape[0], channels, total * hop

    def run(part: Chunk, on_tile: OnTile) -> Tensor:
        part_noise = noise.slice(part.low, part.high) if noise else None
        return autoencoder.decode(latent[..., part.low : part.high], part_noise, on_tile)

    steps = autoencoder.decode_tiles
    sizes = [steps(latent.shape[0], part.high - part.low, latent.device) for part in plan]
    place = torch.device(out_device or latent.device)
    return _stitch(plan, run, shape, place, _counter(sum(sizes), on_chunk))


def encode_chunked(
    autoencoder: SAMEAutoencoder,
    audio: Tensor,
    chunk: int | None = None,
    *,
    on_chunk: OnChunk | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Audio [B, 2, N] -> latent [B, 256, ceil(N / 4096)] float32, as `autoencoder.encode`.

    Args:
        audio: anywhere; only a chunk of it at a time goes to `device`.
        chunk: latents per chunk (any number; rounded up to the grid), None = the whole at once.
        on_chunk: told after every tile (steps done, steps in all).
        device, dtype: where and in what precision to compute, None = as the audio is.

    Returns:
        The latent on `device`.

    Raises:
        InputError: no audio samples, or a chunk length below 1.
    """
    hop, place = autoencoder.hop, torch.device(device or audio.device)
    total = -(-audio.shape[-1] // hop)
    plan = plan_chunks(total, chunk, autoencoder.chunk_grid, autoencoder.halo)
    shape = audio.shape[0], autoencoder.config.latent_channels, total

    def run(part: Chunk, on_tile: OnTile) -> Tensor:
        samples = audio[..., part.low * hop : part.high * hop]
        return autoencoder.encode(samples.to(device=place, dtype=dtype), on_tile)

    steps = autoencoder.encode_tiles
    sizes = [steps(audio.shape[0], part.high - part.low, place) for part in plan]
    return _stitch(plan, run, shape, place, _counter(sum(sizes), on_chunk))


def _stitch(
    plan: list[Chunk],
    run: Callable[[Chunk, OnTile], Tensor],
    shape: tuple[int, int, int],
    device: torch.device,
    on_tile: OnTile,
) -> Tensor:
    """Compute chunk by chunk and join what is to be kept into one float32 tensor of `shape`."""
    if len(plan) == 1:
        return run(plan[0], on_tile).to(device)
    out = torch.empty(shape, device=device)
    scale = shape[-1] // plan[-1].stop  # what one latent occupies in the last dimension
    for part in plan:
        result = run(part, on_tile)
        first = (part.start - part.low) * scale
        length = (part.stop - part.start) * scale
        out[..., part.start * scale : part.stop * scale] = result[..., first : first + length]
    return out


def _counter(total: int, on_chunk: OnChunk | None) -> OnTile:
    """Count tiles and report them."""
    if on_chunk is None:
        return lambda: None
    done = iter(range(1, total + 1))
    return lambda: on_chunk(next(done), total)
