"""What it takes to place the DiT on a device: the dtype when nobody chose one, and memory."""

import functools

import torch

from .config import DiTConfig

# Bytes alive per value (token times width) at the widest point of a DiT block, counted by tracing
# every tensor: in float32, in half precision, and in that on a CPU, where attention is float32.
DIT_BYTES, DIT_BYTES_DIFFERENTIAL = (58, 32, 33), (67, 40, 57)
# Measured on a CPU beyond that, in float32 and in half precision: the matrix libraries' code and
# buffers (in float32 those grow with the width), and the gaps that tensors of different sizes
# leave in the heap, as a share of the tensors. Gaps end at some size: glibc maps each tensor above
# 32 MB apart and returns it.
DIT_BUFFERS_FLOAT32, DIT_BUFFERS_HALF = 34e3, 31e6  # per width; in all
DIT_GAPS, DIT_MOST_GAPS = (0.6, 0.8), 80e6


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices itself (AVX512-BF16 or AMX).

    Elsewhere torch emulates them, slower than float32.
    """
    named = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 and newer
    if "avx512_bf16" in named or "amx_bf16" in named:
        return bool(named.get("avx512_bf16") or named.get("amx_bf16"))
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def dit_dtype(
    config: DiTConfig, objective: str, stored: torch.dtype, device: torch.device
) -> torch.dtype:
    """What the DiT computes in by default: on a card the file's dtype, on a CPU what is exact.

    On CPUs with bfloat16 instructions a step takes about half the time in bfloat16, and the latents
    of a post-trained small model stay 39 dB above their difference from float32. Differential
    attention (27 dB) and the many guided steps of a base model (28 dB) lose too much.

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
    """
    size, on_cpu = torch.empty((), dtype=dtype).element_size(), device.type == "cpu"
    kind = 0 if size == 4 else 2 if on_cpu else 1
    alive = (DIT_BYTES_DIFFERENTIAL if config.differential else DIT_BYTES)[kind]
    activations = alive * config.width * batch * (config.memory_tokens + frames)
    constants = size * config.width * config.depth * local_rows * frames
    if on_cpu:
        gaps = min(DIT_GAPS[size < 4] * activations, DIT_MOST_GAPS)
        buffers = DIT_BUFFERS_HALF if size < 4 else DIT_BUFFERS_FLOAT32 * config.width
        return activations + gaps + constants + buffers
    return activations + constants
