"""How much memory a forward pass needs beside the weights, in bytes.

Counted from the tensors that are alive at the widest point of a block.
"""

from collections.abc import Callable

import torch

from .config import DiTConfig, ResamplerConfig, SAMEConfig

MIN_CHUNK = 32  # latents; below it the halos cost more than the chunk
PIECE_ROWS = 1024  # token rows that SAME works on at a time


def dit_memory(config: DiTConfig, batch: int, frames: int, dtype: torch.dtype) -> float:
    """Peak activations of one DiT call and the constants it keeps.

    Args:
        config: sizes.
        batch: B, doubled under guidance.
        frames: T.
        dtype: of the computation.
    """
    size = torch.empty((), dtype=dtype).element_size()
    tokens = batch * (config.memory_tokens + frames)
    # Residual and normed input; then feed-forward (2 x inner, gate, product) is the widest point.
    feed_forward = 2 + 4 * config.ff_mult
    attention = 2 + (15 if config.differential else 9)
    local = config.depth * frames  # to_local_embed of every block, kept for the generation
    return size * config.width * (tokens * max(feed_forward, attention) + local)


def encode_memory(
    config: SAMEConfig, batch: int, frames: int, chunk: int | None, dtype: torch.dtype
) -> float:
    """Peak activations of encoding, the joined result included.

    Args:
        config: sizes.
        batch: B.
        frames: T, latents of the whole signal.
        chunk: latents per chunk, None = whole.
        dtype: of the computation.
    """
    return _same_memory(config, config.encoder, batch, frames, chunk, dtype)


def decode_memory(
    config: SAMEConfig, batch: int, frames: int, chunk: int | None, dtype: torch.dtype
) -> float:
    """Peak activations of decoding, the joined audio included; arguments as `encode_memory`."""
    return _same_memory(config, config.decoder, batch, frames, chunk, dtype)


def auto_chunk(
    config: SAMEConfig,
    frames: int,
    free: float,
    dtype: torch.dtype,
    memory: Callable[[SAMEConfig, int, int, int | None, torch.dtype], float],
) -> int | None:
    """None (whole) when that fits into half of the free memory, else the longest chunk that does.

    Args:
        config: sizes.
        frames: T.
        free: bytes.
        dtype: of the computation.
        memory: `encode_memory` or `decode_memory`.
    """
    if memory(config, 1, frames, None, dtype) <= free / 2:
        return None
    chunk = frames
    while chunk > MIN_CHUNK and memory(config, 1, frames, chunk, dtype) > free / 2:
        chunk //= 2
    return max(chunk, MIN_CHUNK)


def _same_memory(
    config: SAMEConfig,
    side: ResamplerConfig,
    batch: int,
    frames: int,
    chunk: int | None,
    dtype: torch.dtype,
) -> float:
    size = torch.empty((), dtype=dtype).element_size()
    reach = side.depth * side.window if side.window is not None else 2
    part = frames if chunk is None else min(frames, chunk + 2 * reach)
    group = config.stride + 1
    tokens = group * part * side.width  # updated in place, layer by layer
    patches = config.stride * part * side.channels  # the same number of values as its audio
    piece = PIECE_ROWS * side.width * (10 + 3 * side.ff_mult)
    audio = frames * config.stride * side.channels * 4
    return batch * (size * (tokens + 2 * patches) + audio) + size * piece
