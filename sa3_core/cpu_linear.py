"""The faster of torch's two float32 matrix libraries for linear layers on a CPU.

torch multiplies float32 matrices with MKL, which on AMD processors keeps to AVX2 instructions even
where AVX-512 is there; oneDNN, the other library that torch brings, does not. On such a processor
it is twice as fast with the same float32 arithmetic (relative error 4e-7 against 3e-7).
"""

import functools
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

CPUINFO = Path("/proc/cpuinfo")  # Linux; elsewhere platform.processor() names the maker
FEW_ROWS = 32  # below this the call's own overhead decides, and it is MKL's that is smaller


def _amd_processor() -> bool:
    try:
        return "AuthenticAMD" in CPUINFO.read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        return "AuthenticAMD" in platform.processor()


@functools.cache
def onednn_is_faster() -> bool:
    """True on AMD processors with AVX-512 when torch was built with oneDNN."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and _amd_processor()
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b like torch.nn.functional.linear, through the faster library.

    Args:
        x: [..., in].
        weight: [out, in].
        bias: [out] or None.
    """
    if (
        x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and onednn_is_faster()
        and x.numel() >= FEW_ROWS * x.shape[-1]
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and not torch.compiler.is_compiling()
    ):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)
