"""flash-attn as an optional faster backend on CUDA in half precision."""

import functools
import importlib.util

import torch
from torch import Tensor


@functools.cache
def _flash_installed() -> bool:
    return importlib.util.find_spec("flash_attn") is not None


def flash_usable(q: Tensor) -> bool:
    """True when flash-attn is installed and q is a half-precision CUDA tensor."""
    return q.is_cuda and q.dtype in (torch.float16, torch.bfloat16) and _flash_installed()


def flash_attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Unmasked attention through flash-attn; shapes as `attention.attend`."""
    from flash_attn import flash_attn_func  # pyright: ignore[reportMissingImports]

    out = flash_attn_func(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2)
