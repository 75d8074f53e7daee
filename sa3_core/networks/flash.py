"""flash-attn as an optional faster backend on CUDA in half precision."""

import functools
import importlib.util

import torch
from torch import Tensor


@functools.cache
def _flash_installed() -> bool:
    return importlib.util.find_spec("flash_attn") is not None


def flash_usable(q: Tensor) -> bool:
    """True when flash-attn is installed and q is a half-precision CUDA tensor.

    Not asked while a compiler traces: it cannot look for packages, and torch's own attention runs
    the same kernels.
    """
    if torch.compiler.is_compiling():
        return False
    return q.is_cuda and q.dtype in (torch.float16, torch.bfloat16) and _flash_installed()


def flash_attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Unmasked attention through flash-attn; shapes as `attention.attend`."""
    from flash_attn import flash_attn_func  # pyright: ignore[reportMissingImports]

    out = flash_attn_func(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2)


def flash_attend_segments(q: Tensor, k: Tensor, v: Tensor, segments: Tensor) -> Tensor:
    """Attention within segments; q, k, v [B, H, N, 64], the B items laid end to end.

    Padding is a segment of its own, so nothing is packed or unpacked, and shapes depend on B and N
    alone.

    Args:
        q, k, v: queries, keys and values.
        segments: int32, where segments start and, as the last entry, B N; may repeat.
    """
    from flash_attn import flash_attn_varlen_func  # pyright: ignore[reportMissingImports]

    b, _, n, _ = q.shape
    rows = [x.transpose(1, 2).flatten(0, 1) for x in (q, k, v)]  # [B N, H, 64]
    out = flash_attn_varlen_func(*rows, segments, segments, n, n)
    return out.unflatten(0, (b, n)).transpose(1, 2)
