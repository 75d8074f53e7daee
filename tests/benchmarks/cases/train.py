"""Training: a step's time and peak memory beside the published way and the machine's limit.

The published way rebuilds every adapted weight in the net, differentiates the whole of it, leaves
element-wise parts to autograd and runs every block again on the way back. The limit is the FLOPs of
a lora's step (`flops.training_step`) at the rate of torch's own product around that step. Memory is
the most that tensors hold at once; what a process takes beside depends on its allocator.

On a processor one thread computes, and seconds are those that it was given: what else runs on the
machine matters little. A step of many seconds is timed once, and its memory counted meanwhile.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sa3_core.geometry import frames_covering, samples_of
from sa3_core.networks.conditioning import Conditioner
from sa3_core.networks.config import DiTConfig, ModelConfig
from sa3_core.networks.dit import DiffusionTransformer
from sa3_core.networks.model import SA3Model
from sa3_core.sampling.schedule import FullShift
from sa3_core.text.conditioning import TextConditioning
from sa3_core.training import adapter as adapter_module
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from sa3_core.training.draws import DrawSettings, draw_item
from sa3_core.training.step import StepInputs, assemble, predict, score
from tests.benchmarks.cases.options import Options
from tests.benchmarks.checkpoints import filled
from tests.benchmarks.measuring.flops import training_step
from tests.benchmarks.measuring.machine import describe
from tests.benchmarks.measuring.peak import (
    CPU_SHAPES,
    CUDA_SHAPES,
    QUICK_SHAPES,
    Clock,
    Shapes,
    product_rate,
)
from tests.benchmarks.measuring.training import budget_head, budget_row, causes, peak_of_tensors
from tests.helpers.plain_ways import plain_ways

RANK, TEXT_TOKENS = 16, 12
SMALL = DiTConfig(width=1024, depth=20, heads=16, differential=False)
MEDIUM = DiTConfig(width=1536, depth=24, heads=24, differential=True)
QUICK = DiTConfig(width=128, depth=2, heads=2, differential=False)
ROUNDS, SECONDS_PER_FORM, LONG = 3, 25, 6


@dataclass(frozen=True)
class Measured:
    """Seconds of a step, median and fastest, and bytes of its peak."""

    seconds: float
    fastest: float
    peak: float


@dataclass(frozen=True)
class Case:
    """What is trained: a net, a type and a length."""

    size: str
    config: DiTConfig
    kind: str
    seconds: float


@dataclass(frozen=True)
class Found:
    """Lines of both tables."""

    times: list[str]
    budget: list[str]


class Rebuilt(nn.Module):
    """The published way: the adapted weight itself, made anew in every forward pass."""

    def __init__(self, weight: Tensor, kind: str, generator: torch.Generator) -> None:
        super().__init__()
        flat = weight.flatten(1)
        out, width = flat.shape
        device = weight.device
        self.rows = kind.startswith("dora")
        if self.rows:
            self.magnitude = nn.Parameter(flat.norm(dim=1))
        if kind.endswith("-xs"):
            self.core = nn.Parameter(torch.zeros(RANK, RANK, device=device))
            sides = torch.randn(out, RANK, generator=generator), torch.randn(RANK, width)
            self.left, self.right = (side.to(device) for side in sides)
        else:
            a = torch.randn(RANK, width, generator=generator) * width**-0.5
            self.core = None
            self.left = nn.Parameter(torch.zeros(out, RANK, device=device))
            self.right = nn.Parameter(a.to(device))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight of this step."""
        left = self.left if self.core is None else self.left @ self.core
        changed = weight.flatten(1) + left @ self.right
        if self.rows:
            changed = changed * (self.magnitude / changed.norm(dim=1))[:, None]
        return changed.view_as(weight)


def model_of(config: DiTConfig, device: torch.device) -> SA3Model:
    """A net of random weights, frozen, with its conditioner."""
    whole = ModelConfig(dit=config, same=None)
    dit = filled(DiffusionTransformer(config, device=torch.device("meta")), device)
    conditioner = filled(Conditioner(whole, device=torch.device("meta")), device)
    for net in (dit, conditioner):
        net.requires_grad_(False)
    return SA3Model(dit, conditioner, whole, "rectified_flow", "random", 2**24, device)


def inputs_of(seconds: float, device: torch.device) -> StepInputs:
    """One clip with everything drawn."""
    frames = frames_covering(samples_of(seconds))
    tokens = torch.randn(1, TEXT_TOKENS, 768)
    text = TextConditioning(tokens, torch.ones(1, TEXT_TOKENS, dtype=torch.bool))
    draw = draw_item(DrawSettings(text_dropout=0), 1, frames, frames)
    clip = torch.randn(1, 256, frames)
    return assemble(clip, [seconds], text, [draw], FullShift()).to(device)


def step_of(
    model: SA3Model,
    inputs: StepInputs,
    parameters: Iterable[Tensor],
    begin: Callable[[], None],
    recompute: bool,
) -> Callable[[], None]:
    """A whole step: forward, back, optimizer."""
    optimizer = torch.optim.AdamW(list(parameters), 1e-6)

    def step() -> None:
        optimizer.zero_grad()
        begin()
        score(predict(model, inputs, recompute), inputs).total.backward()
        optimizer.step()
        if model.device.type == "cuda":
            torch.cuda.synchronize()

    return step


def clock_of(device: torch.device) -> Clock:
    """What tells the time of a step."""
    return time.thread_time if device.type == "cpu" else time.perf_counter


def measured(step: Callable[[], None], device: torch.device, rounds: int) -> Measured:
    """Time of a step, and the peak of its memory beside what was there.

    What a first step touches for the first time counts in its time: run one before, where it is
    much and the step so long that no other is timed.
    """
    clock, times = clock_of(device), list[float]()

    def timed() -> None:
        start = clock()
        step()
        times.append(clock() - start)

    peak = peak_of(timed, device)
    if times[0] < LONG:
        rounds = max(1, min(rounds, round(SECONDS_PER_FORM / times.pop())))
        for _ in range(rounds):
            timed()
    return Measured(statistics.median(times), min(times), peak)


def peak_of(step: Callable[[], None], device: torch.device) -> float:
    """The most bytes that a step's tensors hold at once beside those that were there."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = float(torch.cuda.memory_allocated())
        step()
        return float(torch.cuda.max_memory_allocated()) - before
    return peak_of_tensors(step)


def rebuilt_step(
    model: SA3Model, case: Case, inputs: StepInputs
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A step of the published way, and what takes it out of the net again."""
    generator, made = torch.Generator().manual_seed(0), []
    layers = [m for m in model.dit.modules() if isinstance(m, nn.Linear)]
    for layer in layers:
        one = Rebuilt(layer.weight, case.kind, generator)
        parametrize.register_parametrization(layer, "weight", one)
        made += [p for p in one.parameters() if p.requires_grad]

    def remove() -> None:
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)

    return step_of(model, inputs, made, lambda: None, True), remove


def some_bases(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Any orthonormal vectors: a step takes as long with them, and true ones take a minute."""
    sides = (torch.randn(size, rank) for size in weight.flatten(1).shape)
    left, right = (torch.linalg.qr(side).Q for side in sides)
    return left, right


class Subject:
    """A net with an adapter of one type: what cases of different lengths share."""

    def __init__(self, config: DiTConfig, kind: str, device: torch.device) -> None:
        self.model = model_of(config, device)
        with patch.object(adapter_module, "svd_bases", some_bases):
            self.adapter = TrainedAdapter(self.model, AdapterSettings(kind, RANK))


def rows_of(case: Case, subject: Subject, rounds: int, shapes: Shapes) -> Found:
    """The table's lines of one case, and where a step's time goes."""
    model, adapter, device = subject.model, subject.adapter, subject.model.device
    inputs = inputs_of(case.seconds, device)
    frames = inputs.clips.shape[-1]
    with plain_ways():
        step, remove = rebuilt_step(model, case, inputs)
        try:
            peer = measured(step, device, rounds)
        finally:
            remove()
    del step
    lines, budget = list[str](), list[str]()
    for recompute in (False, True):
        flops = training_step(case.config, frames, TEXT_TOKENS + 2, RANK, recompute)
        with adapter.attached():
            step = step_of(model, inputs, adapter.parameters(), adapter.begin_step, recompute)
            tokens = case.config.memory_tokens + frames
            took = causes(step, tokens + tokens % 2, RANK)
            before = product_rate(device.type, shapes, clock_of(device))
            own = measured(step, device, rounds)
            speed = (before + product_rate(device.type, shapes, clock_of(device))) / 2
        limit = flops.total / speed
        if device.type == "cpu":
            name = _name(case, recompute)
            budget.append(budget_row(took, own.seconds, flops.layers / speed, name))
        lines.append(
            f"| {case.size} | {case.kind} | {case.seconds:g} s | "
            f"{'again' if recompute else 'kept'} | {own.seconds:.2f} ({own.fastest:.2f}) | "
            f"{limit / own.seconds:.0%} ({limit / own.fastest:.0%}) | "
            f"{peer.seconds:.2f} ({peer.fastest:.2f}) | x{peer.seconds / own.seconds:.2f} | "
            f"{own.peak / 1e9:.2f} | {peer.peak / 1e9:.2f} | "
            f"x{own.peak / max(peer.peak, 1.0):.2f} |"
        )
        del step
    return Found(lines, budget)


def _name(case: Case, recompute: bool) -> str:
    return f"{case.size} {case.kind} {case.seconds:g} s {'again' if recompute else 'kept'}"


def cases(options: Options) -> list[Case]:
    """What is measured; `only` picks sizes and types, `seconds` lengths."""
    if options.quick:
        return [Case("quick", QUICK, kind, 2.0) for kind in ("lora", "dora-rows")]
    types = ("lora", "dora-rows", "lora-xs")
    found = [Case("small", SMALL, kind, s) for kind in types for s in (12.0, 47.0, 120.0)]
    found += [Case("medium", MEDIUM, "dora-rows", s) for s in (12.0, 47.0)]
    chosen = [c for c in found if not options.only or {c.size, c.kind} & set(options.only)]
    return [c for c in chosen if not options.seconds or c.seconds in options.seconds]


def run(options: Options) -> str:
    """Measure and return a Markdown table."""
    cuda = torch.cuda.is_available() if options.device == "auto" else options.device == "cuda"
    device = torch.device("cuda" if cuda else "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _table(options, device)
    finally:
        torch.set_num_threads(threads)


def _table(options: Options, device: torch.device) -> str:
    cpu = CPU_SHAPES[1], *CPU_SHAPES[3:5]
    shapes = QUICK_SHAPES if options.quick else cpu if device.type == "cpu" else CUDA_SHAPES
    lines = [
        f"# Training, float32, rank {RANK}, batch 1, {describe()}",
        "",
        "Published way: weights rebuilt, full gradient, blocks recomputed. Memory: peak beside the "
        "base weights, GB.",
        "",
        "| size | type | crop | blocks | step s | of the limit | published s | faster | memory | "
        "published | share |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    budget = list[str]()
    for (config, kind), group in itertools.groupby(cases(options), lambda c: (c.config, c.kind)):
        subject = Subject(config, kind, device)
        for case in group:
            found = rows_of(case, subject, options.rounds or ROUNDS, shapes)
            print("\n".join([*found.times, *found.budget]), flush=True)
            lines += found.times
            budget += found.budget
            gc.collect()
        del subject
    if budget:
        lines += ["", "Where a step's time goes:", "", *budget_head(), *budget]
    return "\n".join([*lines, ""])
