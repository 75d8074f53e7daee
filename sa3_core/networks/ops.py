"""The layer classes the nets are built from, and how linear layers and memory behave on a CPU.

A host may inject layer classes of its own (streaming, casting).

torch multiplies float32 matrices with MKL, which on AMD processors keeps to AVX2 instructions even
where AVX-512 is there; oneDNN, the other library that torch brings, does not. On such a processor
it is twice as fast with the same float32 arithmetic (relative error 4e-7 against 3e-7).
"""

import functools
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CPUINFO = Path("/proc/cpuinfo")  # Linux; elsewhere platform.processor() names the maker
_packed: dict[int, Tensor] = {}  # address of a weight -> the same weight in oneDNN's layout
FEW_ROWS = 32  # below this the call's own overhead decides, and it is MKL's that is smaller
_LARGEST_BLOCK = 31 * 2**20  # glibc never raises its threshold beyond 32 MB


class Ops(Protocol):
    """Constructors of parameterised layers, each taking `device` and `dtype` like torch.nn's."""

    Linear: Any
    Conv1d: Any


class Linear(nn.Linear):
    """torch.nn.Linear through the faster of torch's CPU matrix libraries."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return linear(input, self.weight, self.bias)


class TorchOps:
    """torch.nn's layers, without a host."""

    Linear: ClassVar[Any] = Linear
    Conv1d: ClassVar[Any] = nn.Conv1d


@functools.cache
def amd_processor() -> bool:
    """Whether the processor is one of AMD's."""
    try:
        return "AuthenticAMD" in CPUINFO.read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        return "AuthenticAMD" in platform.processor()


def cpu_has(name: str, older: str) -> bool:
    """Whether the processor has instructions.

    Args:
        name: what torch 2.10 and newer call them.
        older: the function that tells it in older ones.
    """
    named = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(named[name] if name in named else getattr(torch.cpu, older, lambda: False)())


def amx_multiplies_bfloat16() -> bool:
    """Whether the processor has AMX, several times as fast in bfloat16 as in float32."""
    return cpu_has("amx_bf16", "_is_amx_tile_supported")


@functools.cache
def onednn_is_faster() -> bool:
    """True on AMD processors with AVX-512 when torch was built with oneDNN."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and amd_processor()
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b like torch.nn.functional.linear, through the faster library.

    Args:
        x: [..., in].
        weight: [out, in].
        bias: [out] or None.
    """
    if (
        not torch.compiler.is_compiling()  # first: the rest could not be traced whole
        and x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and onednn_is_faster()
        and x.numel() >= FEW_ROWS * x.shape[-1]
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
    ):
        laid_out = _packed.get(weight.data_ptr(), weight) if _packed else weight
        return torch.ops.mkldnn._linear_pointwise(x, laid_out, bias, "none", [], "")
    return F.linear(x, weight, bias)


def linear_back(grad: Tensor, weight: Tensor) -> Tensor:
    """grad W, a layer's way back to its input, through the faster library; not differentiable.

    Args:
        grad: [N, out].
        weight: [out, in], of grad's dtype.
    """
    rows, _ = grad.shape
    if grad.is_cpu and grad.dtype == torch.float32 and rows >= FEW_ROWS and onednn_is_faster():
        return torch.ops.mkldnn._linear_pointwise(grad, weight.t(), None, "none", [], "")
    return grad @ weight


@contextmanager
def packed_weights(net: nn.Module, rows: int) -> Iterator[None]:
    """Bring the net's weights into oneDNN's own layout once, as it otherwise does in every call.

    Saves 3 to 6 % of many calls, and holds a second copy of the weights while the block runs.

    Args:
        net: its linear layers with float32 weights on the CPU are packed, others left alone.
        rows: of one call, which the layout is chosen for; calls of other sizes are right too.
    """
    if onednn_is_faster():
        for module in net.modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, Tensor) and _packable(weight):
                packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
                _packed[weight.data_ptr()] = packed
    try:
        yield
    finally:
        _packed.clear()


def _packable(weight: Tensor) -> bool:
    plain = weight.ndim == 2 and weight.is_cpu and weight.is_contiguous()
    return plain and weight.dtype == torch.float32


@functools.cache
def keep_freed_memory() -> None:
    """Make glibc keep freed temporary tensors instead of returning them to the kernel.

    It returns a block of 128 KB or more at once, and the next tensor of that size then costs a page
    fault per 4 KB, 5 % of the time of a transformer layer. Freeing one large block raises that
    threshold (`mallopt(3)`, M_MMAP_THRESHOLD) for the rest of the process. No effect elsewhere.
    """
    torch.empty(_LARGEST_BLOCK, dtype=torch.uint8)
