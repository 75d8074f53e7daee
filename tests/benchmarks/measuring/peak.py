"""The matmul rate of a machine: what torch's own product reaches, and what any way reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sa3_core.files.published import DTYPES

# rows, inner, columns: squares, and the layers of the small DiT and of SAME
CPU_SHAPES = (
    *((1024, 1024, 1024), (2048, 2048, 2048), (3072, 3072, 3072)),
    *((452, 1024, 8192), (1356, 4096, 1024), (1088, 768, 4608), (1088, 2304, 768)),
)
CUDA_SHAPES = ((4096, 4096, 4096), (8192, 8192, 8192), (4160, 1536, 12288), (16384, 8192, 8192))
QUICK_SHAPES = ((256, 256, 256),)
Shapes = tuple[tuple[int, int, int], ...]
SECONDS_PER_LOOK = 0.04
SECONDS_PER_CALL = 0.12  # the shortest time that one way is given on one shape


PLAIN = ("a @ b", "F.linear")  # what torch does unless it is asked for a certain library


@dataclass(frozen=True)
class Rates:
    """FLOP/s, two per multiply-add.

    Attributes:
        matmul: of torch's own product.
        best: of the fastest library that torch brings, with operands laid out for it beforehand.
    """

    matmul: float = 0.0
    best: float = 0.0

    def or_better(self, other: Rates) -> Rates:
        """The higher of both, each for itself."""
        return Rates(max(self.matmul, other.matmul), max(self.best, other.best))


def ways(x: Tensor, weight: Tensor) -> dict[str, Callable[[], Tensor]]:
    """x [rows, inner] times weight [columns, inner] transposed, in torch's different ways."""
    transposed = weight.t().contiguous()
    found: dict[str, Callable[[], Tensor]] = {
        "a @ b": lambda: x @ transposed,
        "F.linear": lambda: F.linear(x, weight),
    }
    fused = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if fused is not None and x.is_cpu:
        found["oneDNN"] = lambda: fused(x, weight, None, "none", [], "")
        pack = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
        if pack is not None:
            found["oneDNN, packed"] = _packed(fused, pack, x, weight)
    return found


def _packed(fused: Any, pack: Any, x: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    """oneDNN with the weight laid out for it beforehand."""
    kept: list[Tensor] = []

    def run() -> Tensor:
        if not kept:
            kept.append(pack(weight, x.shape[0]))
        return fused(x, kept[0], None, "none", [], "")

    return run


Clock = Callable[[], float]


def rate(
    work: Callable[[], Tensor],
    flops: float,
    device: str,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> float:
    """FLOP/s of the fastest of several calls."""
    best, spent = float("inf"), 0.0
    while spent < seconds:
        start = clock()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        took = max(clock() - start, 1e-9)
        best, spent = min(best, took), spent + took
    return flops / best


def product_rate(device: str, shapes: Shapes, clock: Clock) -> float:
    """FLOP/s of torch's own float32 product on the best shape, a second's look."""
    best = 0.0
    for rows, inner, columns in shapes:
        x, weight = (torch.randn(n, inner, device=device) for n in (rows, columns))
        found, flops = ways(x, weight), 2.0 * rows * inner * columns
        for name in PLAIN:
            best = max(best, rate(found[name], flops, device, SECONDS_PER_LOOK, clock))
    return best


def rates(
    dtype: str, device: str = "cpu", quick: bool = False, clock: Clock = time.perf_counter
) -> Rates:
    """The rates on the best shape for each, in seconds of a clock."""
    shapes = QUICK_SHAPES if quick else CPU_SHAPES if device == "cpu" else CUDA_SHAPES
    found = Rates()
    for rows, inner, columns in shapes:
        x = torch.randn(rows, inner).to(device, DTYPES[dtype])
        weight = torch.randn(columns, inner).to(device, DTYPES[dtype])
        for name, work in ways(x, weight).items():
            try:
                work()  # the first call prepares
            except RuntimeError:
                continue  # a way that this dtype or build lacks
            flops = 2.0 * rows * inner * columns
            reached = rate(work, flops, device, 0.01 if quick else SECONDS_PER_CALL, clock)
            found = found.or_better(Rates(reached if name in PLAIN else 0.0, reached))
    return found
