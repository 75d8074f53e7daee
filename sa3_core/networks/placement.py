"""What it takes to place the DiT on a device: the dtype when nobody chose one, and memory."""

import functools
from dataclasses import dataclass

import torch

from .config import DiTConfig
from .integer import SUMS_AT_ONCE
from .ops import amd_processor, amx_multiplies_bfloat16, cpu_has


@dataclass(frozen=True)
class BlockBytes:
    """Bytes alive per value (token times width) at the widest point of a DiT block.

    Counted by tracing every tensor. On a CPU attention is float32 in half precision too, but for
    processors with AMX, which take a little less.
    """

    float32: int
    half: int
    half_on_cpu: int


@dataclass(frozen=True)
class CPUBytes:
    """What a CPU takes beyond the tensors, measured.

    Attributes:
        libraries, libraries_per_width: the matrix libraries' code and buffers; in float32 those
            grow with the width.
        gaps: what tensors of different sizes leave unused in the heap, as a share of the tensors.
    """

    libraries: float
    libraries_per_width: float
    gaps: float

    def beyond(self, tensors: float, width: int) -> float:
        """Bytes beyond those of the tensors."""
        gaps = min(self.gaps * tensors, MOST_GAPS)
        return gaps + self.libraries + self.libraries_per_width * width


MOST_GAPS = 80e6  # glibc maps each tensor above 32 MB apart and returns it
LARGEST_MATRIX = 8  # of a block, the feed-forward's first: its values per width squared
PLAIN = BlockBytes(float32=58, half=32, half_on_cpu=33)
DIFFERENTIAL = BlockBytes(float32=67, half=40, half_on_cpu=57)
CPU_FLOAT32 = CPUBytes(libraries=0, libraries_per_width=34e3, gaps=0.6)
CPU_HALF = CPUBytes(libraries=31e6, libraries_per_width=0, gaps=0.8)


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices faster than float32: with AMX, or on AMD's.

    Intel's AVX512-BF16 alone starts one such product per cycle where two of float32 fit: it reaches
    the same at most, and 78 against 127 GFLOP/s at the shapes of a DiT. Where neither is there,
    torch emulates bfloat16, slower than float32 too.
    """
    has_avx512 = cpu_has("avx512_bf16", "_is_avx512_bf16_supported")
    return amx_multiplies_bfloat16() or (has_avx512 and amd_processor())


def dit_dtype(
    config: DiTConfig, objective: str, stored: torch.dtype, device: torch.device
) -> torch.dtype:
    """What the DiT computes in by default: on a card the file's dtype, on a CPU what is exact.

    Where a CPU's bfloat16 products are fast a step takes about half the time in them, and the
    latents of a post-trained small model stay 39 dB above their difference from float32.
    Differential attention (27 dB) and the many guided steps of a base model (28 dB) lose too much.

    Args:
        config: of the DiT.
        objective: `rf_denoiser` (post-trained) or `rectified_flow` (base).
        stored: dtype of the file.
        device: where it computes.
    """
    if device.type != "cpu":
        return stored
    exact = objective == "rf_denoiser" and not config.differential
    return torch.bfloat16 if exact and cpu_has_bfloat16() else torch.float32


def dit_memory(
    config: DiTConfig,
    batch: int,
    frames: int,
    dtype: torch.dtype,
    device: torch.device,
    local_rows: int = 0,
    narrow: bool = False,
) -> float:
    """Peak activations of one DiT call and the constants it keeps.

    Args:
        config: sizes.
        batch: B, doubled under guidance.
        frames: T.
        dtype: of the computation.
        device: where it runs.
        local_rows: items whose local conditioning (mask and masked source) is kept for the
            generation, in every block; 0 when nothing is inpainted.
        narrow: the blocks' matrices are stored in 8 bits, one of them widened at a time; or on a
            card multiplied in whole numbers, whose sums are 4 bytes each before and after scaling.
    """
    size, on_cpu = torch.empty((), dtype=dtype).element_size(), device.type == "cpu"
    block = DIFFERENTIAL if config.differential else PLAIN
    half = block.half_on_cpu if on_cpu else block.half
    alive = half if size < 4 else block.float32
    activations = alive * config.width * batch * (config.memory_tokens + frames)
    if narrow:
        tokens = batch * (config.memory_tokens + frames)
        sums = 0 if on_cpu else min(LARGEST_MATRIX * config.width * tokens, SUMS_AT_ONCE)
        activations += max(size * LARGEST_MATRIX * config.width**2, 8 * sums)
    constants = size * config.width * config.depth * local_rows * frames
    cpu = CPU_HALF if size < 4 else CPU_FLOAT32
    beyond = cpu.beyond(activations, config.width) if on_cpu else 0.0
    return activations + constants + beyond
