"""How much memory a forward pass needs beside the weights, in bytes.

Counted from the tensors that are alive at the widest point of a block.
"""

from collections.abc import Callable

import torch

from .config import DiTConfig, ResamplerConfig, SAMEConfig
from .same_block import piece_rows

MIN_CHUNK = 32  # latents; below it the halos cost more than the chunk
Memory = Callable[[SAMEConfig, int, int | None, torch.dtype, torch.device], float]

PIECE_COPIES = 14  # widths of a token alive at once: q, k, v twice, rotated copies, the result


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
    config: SAMEConfig,
    frames: int,
    chunk: int | None,
    dtype: torch.dtype,
    device: torch.device,
) -> float:
    """Peak activations of encoding one item, the joined result included.

    Args:
        config: sizes.
        frames: T, latents of the whole signal.
        chunk: latents per chunk, None = whole.
        dtype: of the computation.
        device: where it runs; a GPU works on larger pieces.
    """
    return _same_memory(config, config.encoder, frames, chunk, dtype, device)


def decode_memory(
    config: SAMEConfig,
    frames: int,
    chunk: int | None,
    dtype: torch.dtype,
    device: torch.device,
) -> float:
    """Peak activations of decoding one item; arguments as `encode_memory`."""
    return _same_memory(config, config.decoder, frames, chunk, dtype, device)


def auto_chunk(
    config: SAMEConfig,
    frames: int,
    free: float,
    dtype: torch.dtype,
    device: torch.device,
    memory: Memory,
) -> int | None:
    """None (whole) when that fits into half of the free memory, else the longest chunk that does.

    Args:
        config: sizes.
        frames: T.
        free: bytes.
        dtype: of the computation.
        device: where it runs.
        memory: `encode_memory` or `decode_memory`.
    """
    if memory(config, frames, None, dtype, device) <= free / 2:
        return None
    chunk = frames
    while chunk > MIN_CHUNK and memory(config, frames, chunk, dtype, device) > free / 2:
        chunk //= 2
    return max(chunk, MIN_CHUNK)


def _same_memory(
    config: SAMEConfig,
    side: ResamplerConfig,
    frames: int,
    chunk: int | None,
    dtype: torch.dtype,
    device: torch.device,
) -> float:
    size = torch.empty((), dtype=dtype).element_size()
    reach = side.depth * side.window if side.window is not None else 2
    part = frames if chunk is None else min(frames, chunk + 2 * reach)
    group = config.stride + 1
    tokens = group * part * side.width  # updated in place, layer by layer
    patches = config.stride * part * side.channels  # the same number of values as its audio
    piece = min(piece_rows(device, side.width), group * part) * side.width * PIECE_COPIES
    audio = frames * config.stride * side.channels * 4
    return size * (tokens + 2 * patches + piece) + audio
