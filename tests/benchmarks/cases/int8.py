"""What 8-bit products are worth on this processor: torch's own at the shapes of a DiT block, and
whole steps of a generation.

`ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16` measures as on a processor without AMX. Seconds of the thread
that computes, so that what else runs on the machine matters little; the ways take turns, and the
tables have the median over rounds with the lowest and the highest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from sa3_core.checkpoints.load import load_model
from sa3_core.networks import attention, integer
from sa3_core.networks.integer import IN_INTEGERS, integer_linear
from tests.benchmarks.cases.budget import STEPS, bfloat16_pays, piece
from tests.benchmarks.cases.options import Options
from tests.benchmarks.checkpoints import checkpoint
from tests.benchmarks.measuring import machine
from tests.benchmarks.measuring.peak import ways

# to_qkv, to_out, feed-forward in and out of the small DiT; [in, out]
SHAPES = ((1024, 3072), (1024, 1024), (1024, 8192), (4096, 1024))
ROWS = {10.0: 238, 30.0: 452, 120.0: 1356}  # seconds of audio -> frames with memory tokens
ROUNDS, CALLS = 5, 2
WORTH_IT = 1.6  # times bfloat16's rate
STEP_SECONDS, STEP_ROUNDS = 10.0, 3
FORMS = {  # what is computed in, what blocks are stored in
    "bf16": (torch.bfloat16, None),
    "fp32": (torch.float32, None),
    "int8 in bf16": (torch.bfloat16, "int8"),
    "int8 in fp32": (torch.float32, "int8"),
}
HEADER = ("audio", "rows", "product", "GFLOP/s (lowest - highest)", "of bf16", "of fp32")


def run(options: Options) -> str:
    """Measure every way of a product and return a Markdown table."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    lengths = options.seconds or tuple(ROWS)
    lines = [
        *(
            "# Products in 8 bits, one thread",
            "",
            f"{machine.describe()}; torch {torch.__version__}.",
        ),
        f"Instructions for 8-bit products: {'yes' if IN_INTEGERS else 'no'}.",
        *("", "| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)),
    ]
    try:
        with torch.inference_mode():
            for seconds in lengths:
                lines += table(seconds, options.rounds or (1 if options.quick else ROUNDS))
            lines += ["", *steps(options)]
    finally:
        torch.set_num_threads(before)
    return "\n".join([*lines, ""])


def table(seconds: float, rounds: int) -> list[str]:
    """The rows of one length, and whether 8 bits are worth it."""
    rows = ROWS[seconds]
    flops = sum(2.0 * rows * inner * outer for inner, outer in SHAPES)
    taken: dict[str, list[float]] = {}
    prepared = [products(rows, inner, outer) for inner, outer in SHAPES]
    for _ in range(rounds):
        for name in prepared[0]:
            spent = sum(min(_timed(some[name]) for _ in range(CALLS)) for some in prepared)
            taken.setdefault(name, []).append(flops / spent / 1e9)
    rate = {name: statistics.median(found) for name, found in taken.items()}
    half = max(rate["bf16"], rate.get("bf16, weights laid out once", 0.0))
    lines = [
        f"| {seconds:g} s | {rows} | {name} | {rate[name]:.0f} ({min(found):.0f} - "
        f"{max(found):.0f}) | {rate[name] / half:.2f}x | {rate[name] / rate['fp32']:.2f}x |"
        for name, found in taken.items()
    ]
    gain = rate["int8 with rounding"] / half
    verdict = "worth it" if gain >= WORTH_IT else "weights alone in 8 bits are better"
    return [*lines, f"| {seconds:g} s | {rows} | verdict | {verdict} | {gain:.2f}x | |"]


def steps(options: Options) -> list[str]:
    """Whole steps of a generation: rows of a table, by what they are computed and stored in."""
    folder = checkpoint("tiny-s" if options.quick else "small-music")
    seconds = STEP_SECONDS / (10 if options.quick else 1)
    pays = bfloat16_pays()
    taken: dict[str, list[float]] = {name: [] for name in FORMS}
    with (
        patch.object(attention, "BFLOAT16_PAYS", pays),
        patch.object(integer, "BFLOAT16_IS_FASTER", pays),
    ):
        works = {
            name: piece(load_model(folder, dtype=dtype, storage=storage), seconds, 1)[0]
            for name, (dtype, storage) in FORMS.items()
        }
        for _ in range(options.rounds or (1 if options.quick else STEP_ROUNDS)):
            for name, work in works.items():
                if not taken[name]:
                    work()
                taken[name].append(_timed(work) / STEPS)
    half = statistics.median(taken["bf16"])
    lines = [f"Steps of {seconds:g} s:", "", "| form | seconds a step | of bf16 |", "|---|---|---|"]
    for name, found in taken.items():
        middle = statistics.median(found)
        span = f"{min(found):.3f} - {max(found):.3f}"
        lines.append(f"| {name} | {middle:.3f} ({span}) | {middle / half:.2f}x |")
    return lines


def products(rows: int, inner: int, outer: int) -> dict[str, Callable[[], Tensor]]:
    """One product in every way that this torch has."""
    x, weight = torch.randn(rows, inner), torch.randn(outer, inner) * inner**-0.5
    half, half_weight = x.bfloat16(), weight.bfloat16()
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    narrow = (weight / scale).round().to(torch.int8)
    rounded = (x / x.abs().amax() * 127).round().to(torch.int8)
    found: dict[str, Callable[[], Tensor]] = {
        "fp32": lambda: F.linear(x, weight),
        "bf16": lambda: F.linear(half, half_weight),
        "int8": lambda: torch._int_mm(rounded, narrow.t()),  # pyright: ignore[reportPrivateImportUsage]
        "int8 with rounding": lambda: integer_linear(x, narrow, scale, None),
    }
    packed = ways(half, half_weight).get("oneDNN, packed")
    if packed is not None:
        found["bf16, weights laid out once"] = packed
    return found


def _timed(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return max(time.thread_time() - start, 1e-9)
