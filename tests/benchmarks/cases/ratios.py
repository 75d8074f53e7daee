"""A short look at whether anything became slower: seconds over those of the bare matrix products.

One thread and its own processor time, so that what else runs matters little; work and products take
turns, the median of the pairs counts, and what looks slower is looked at twice. Ratios are held to
those stored for processors of the same kind (`stored_ratios.json`): what is 10 % above is a
warning, never a failure.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa3_core.files.published import DTYPES
from sa3_core.geometry import LATENT_CHANNELS
from sa3_core.networks import ops
from sa3_core.networks.dit import DiffusionTransformer
from sa3_core.networks.integer import IN_INTEGERS, integer_linear
from sa3_core.networks.placement import cpu_has_bfloat16
from sa3_core.networks.quantised import quantise
from sa3_core.networks.same import SAMEAutoencoder
from sa3_core.text.conditioning import TEXT_WIDTH
from tests.benchmarks.cases.memory import DITS, SAMES
from tests.benchmarks.cases.options import Options
from tests.benchmarks.checkpoints import ROOT, filled
from tests.benchmarks.measuring.machine import processor

STORED = ROOT / "tests" / "benchmarks" / "stored_ratios.json"
SLOWER = 1.1  # times the stored ratio
ROUNDS, QUICK_ROUNDS = 25, 9
DEPTH, FRAMES = 3, 388  # blocks; latent frames of 30 s and the headroom
LATENTS = 60  # to decode
CONTEXT = 12  # tokens
CPU = torch.device("cpu")
Work = Callable[[], object]
Calls = list[tuple[Tensor, Tensor]]


def run(options: Options) -> str:
    """Measure, compare and say; `--only store` writes what was found as the stored ratios."""
    before, rounds = torch.get_num_threads(), QUICK_ROUNDS if options.quick else ROUNDS
    stored = json.loads(STORED.read_text("utf-8")) if STORED.is_file() else {}
    known = stored.get(kind(), {})
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            found = {name: measured(name, options.rounds or rounds, known) for name in WORK}
    finally:
        torch.set_num_threads(before)
    if "store" in options.only:
        stored[kind()] = {name: round(value, 3) for name, value in found.items()}
        STORED.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", "utf-8")
        known = stored[kind()]
    return "\n".join([*table(found, known), "", *warnings(found, known), ""])


def kind() -> str:
    """What ratios depend on: the maker and the instructions for matrices."""
    maker = "AMD" if ops.amd_processor() else processor().split("(")[0].split(" ")[0]
    amx = "AMX" if ops.amx_multiplies_bfloat16() else ""
    half = "bf16" if cpu_has_bfloat16() else ""
    words = [maker, torch.backends.cpu.get_cpu_capability(), half, amx, "int8" * IN_INTEGERS]
    return " ".join(word for word in words if word)


def table(found: Mapping[str, float], known: Mapping[str, float]) -> list[str]:
    """What was found beside what is stored."""
    lines = [
        *("# Ratios to the bare matrix products, one thread", "", f"Kind of processor: {kind()}."),
        *("", "| work | ratio | stored |", "|---|---|---|"),
    ]
    return lines + [
        f"| {name} | {value:.2f} | {known.get(name, float('nan')):.2f} |"
        for name, value in found.items()
    ]


def warnings(found: Mapping[str, float], known: Mapping[str, float]) -> list[str]:
    """A line for each ratio that rose by more than a tenth, and for what cannot be compared."""
    if not known:
        return [f"Nothing is stored for this kind of processor ({kind()}): nothing was compared."]
    lines = []
    for name, value in found.items():
        before = known.get(name)
        if before is None:
            lines.append(f"{name}: nothing stored, not compared.")
        elif not value <= SLOWER * before:
            lines.append(
                f"WARNING: {name} takes {value:.2f} times its matrix products; "
                f"{before:.2f} is stored ({value / before - 1:+.0%})."
            )
    return lines or ["No ratio is more than 10 % above the stored one."]


def measured(name: str, rounds: int, known: Mapping[str, float]) -> float:
    """The ratio of a piece of work; the lower of two where the first is above what is stored."""
    work, products = WORK[name]()
    found = ratio(work, products, rounds)
    if found > SLOWER * known.get(name, math.inf):
        found = min(found, ratio(work, products, rounds))
    return found


def ratio(work: Work, products: Work, rounds: int) -> float:
    """Seconds of `work` over those of `products`, the median of the pairs."""
    work()
    products()
    return statistics.median(_timed(work) / _timed(products) for _ in range(rounds))


def _timed(work: Work) -> float:
    start = time.thread_time()
    work()
    return max(time.thread_time() - start, 1e-9)


@contextmanager
def noted() -> Iterator[Calls]:
    """Inputs and weights of every linear layer that is called in the block."""
    calls: Calls = []
    forward = ops.Linear.forward

    def noting(self: nn.Linear, input: Tensor) -> Tensor:
        calls.append((input.detach().clone(), self.weight.detach()))
        return forward(self, input)

    with patch.object(ops.Linear, "forward", noting):
        yield calls


def beside_products(work: Work) -> tuple[Work, Work]:
    """The work, and all its linear layers' products one after the other without it."""
    with noted() as calls:
        work()
    return work, lambda: [ops.linear(x, weight, None) for x, weight in calls]


def transformer(dtype: str) -> tuple[Work, Work]:
    """A step of a few blocks of the small transformer."""
    torch.manual_seed(0)
    config = replace(DITS["small DiT"], depth=DEPTH)
    net = DiffusionTransformer(config, device=torch.device("meta"), dtype=DTYPES[dtype])
    net = filled(net, CPU)
    context = torch.randn(1, CONTEXT, TEXT_WIDTH).to(DTYPES[dtype])
    duration = torch.randn(1, TEXT_WIDTH)
    constants = net.prepare(context, None, duration, None, None, FRAMES)
    x, t = torch.randn(1, LATENT_CHANNELS, FRAMES), torch.full((1,), 0.5)
    return beside_products(lambda: net.velocity(x, t, constants))


def decoding() -> tuple[Work, Work]:
    """SAME-S decoding a few seconds."""
    torch.manual_seed(0)
    config = SAMES["SAME-S"]
    config = replace(config, decoder=replace(config.decoder, depth=2))
    net: Any = filled(SAMEAutoencoder(config, device=torch.device("meta")), CPU)
    latent = torch.randn(1, LATENT_CHANNELS, LATENTS)
    return beside_products(lambda: net.decode(latent))


def whole_numbers() -> tuple[Work, Work]:
    """A layer in 8 bits, rounding included, beside the same in float32."""
    torch.manual_seed(0)
    x, weight = torch.randn(FRAMES, 1024), torch.randn(4096, 1024)
    narrow, scale = quantise(weight, "int8")
    return lambda: integer_linear(x, narrow, scale, None), lambda: F.linear(x, weight)


WORK: dict[str, Callable[[], tuple[Work, Work]]] = {
    "transformer, float32": lambda: transformer("fp32"),
    "transformer, bfloat16": lambda: transformer("bf16"),
    "SAME-S decoding": decoding,
    "8-bit layer": whole_numbers,
}
