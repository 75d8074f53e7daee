"""How much memory coding needs beside the weights, in bytes, and the chunk that fits.

Counted from the tensors that are alive at the widest point of a layer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..networks.config import ResamplerConfig, SAMEConfig
from ..networks.ops import onednn_is_faster
from ..networks.same_resampler import PACKING_PAYS, tile_rows
from .chunking import plan_chunks

MIN_CHUNK = 32  # latents; below it the halos cost more than the chunk
Memory = Callable[[SAMEConfig, int, int | None, torch.dtype, torch.device], float]


CPU_LIBRARIES = 50e6  # measured on a CPU: the matrix libraries' code and buffers


@dataclass(frozen=True)
class LayerBytes:
    """Memory of one SAME layer at its widest point, counted by tracing every tensor.

    Queries and keys are float32 while they are rotated, in half precision too.

    Attributes:
        float32, half: bytes alive per value (row times width).
        gaps: measured on a CPU: gaps in the heap, as a share of the layer's tensors.
    """

    float32: int
    half: int
    gaps: float


CHUNKED = LayerBytes(float32=46, half=36, gaps=0.95)  # attention in chunks (SAME-S)
WINDOWED = LayerBytes(float32=90, half=48, gaps=0.4)  # keys and values are folded (SAME-L)


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
        device: where it runs; a GPU works on larger tiles.
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
    decoding = side is config.decoder
    plan = plan_chunks(frames, chunk, config.chunk_grid, config.halo)
    part = max(c.high - c.low for c in plan)
    rows = (config.stride + 1) * (part + -part % side.grid(config.stride))
    tokens = rows * side.width * size  # updated in place, layer by layer
    tiles = math.ceil(rows / tile_rows(device, side.width))  # all about as long
    work = rows / tiles * side.width
    layer = WINDOWED if side.window else CHUNKED
    work *= layer.half if size < 4 else layer.float32
    audio = config.stride * side.channels * 4  # of one latent, float32
    if device.type == "cpu":
        # What layers free stays with the process, so that the audio comes on top.
        work *= 1 + layer.gaps
        joined = part + (0 if part >= frames else frames)
        own = tokens + (audio * joined if decoding else 0)
        return own + work + CPU_LIBRARIES + _packed_layer(side, rows, size)
    if decoding:  # the audio is joined on the CPU, and made when the layers' memory is free again
        return tokens + max(work, audio * part * 2)
    return tokens + work + audio * frames * size / 4


def _packed_layer(side: ResamplerConfig, rows: int, size: int) -> float:
    """The second copy of one layer's weights that `packed_weights` holds while it runs."""
    if rows < PACKING_PAYS or size < 4 or not onednn_is_faster():
        return 0.0
    return size * side.width**2 * (6 + 3 * side.ff_mult)  # to_qkv, to_out; proj (2), back
