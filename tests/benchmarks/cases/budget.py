"""Where a generation's time goes in bfloat16 on a CPU, and what share of it is the limit.

The limit is the time of the necessary operations at the rate of torch's own matrix product, the
best of the whole run. Lengths, batches and forms take turns, for a machine's speed changes between
minutes; a cause's seconds are those of the median round. Batches stand beside single pieces, in
float32 too. `OMP_NUM_THREADS=1` counts the processor's own seconds,
and `ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16` measures as on a processor without AMX.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch

from sa3_core import pipeline
from sa3_core.checkpoints.load import load_autoencoder, load_model
from sa3_core.geometry import LATENT_CHANNELS, effective_frames, target_frames, valid_frames
from sa3_core.networks import attention
from sa3_core.networks.model import SA3Model
from sa3_core.pipeline import GenerateRequest, Pipeline, generate
from sa3_core.sampling.noise import Seeds
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TEXT_WIDTH, TextConditioning
from sa3_core.text.encoder import T5Gemma, load_t5gemma
from tests.benchmarks.cases.jobs import PROMPT_TOKENS, Job, drawn
from tests.benchmarks.cases.options import Options
from tests.benchmarks.cases.tasks import text_flops
from tests.benchmarks.checkpoints import checkpoint
from tests.benchmarks.measuring import budget, flops, machine
from tests.benchmarks.measuring.budget import Clock, clocked
from tests.benchmarks.measuring.peak import rates

STEPS, ROUNDS = 4, 5
LONG_ROUNDS = 3  # of pieces and batches that take longer than 30 s of audio
PIECES = ((10.0, 1), (30.0, 1), (120.0, 1), (10.0, 8))  # seconds, batch
WHOLE_SECONDS, WHOLE_STEPS = 30.0, 8
AS_IT_IS, BEFORE = "as it is", "attention in float32"
WHOLE = (
    ("text encoder", T5Gemma, "encode_once"),
    ("transformer and sampler", pipeline, "sample_latent"),
    ("decoding (float32)", pipeline, "decode"),
)


@dataclass
class Limits:
    """The best matmul rates so far, FLOP/s by dtype."""

    quick: bool
    best: dict[str, float] = field(default_factory=dict)

    def look(self, dtype: str) -> None:
        """Measure once more."""
        found = rates(dtype, quick=self.quick, clock=budget.reader()).matmul
        self.best[dtype] = max(found, self.best.get(dtype, 0.0))


@dataclass
class Rounds:
    """What a form took: seconds of each round with the seconds of its causes."""

    found: list[tuple[float, Counter[str]]] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """From the fastest to the slowest."""
        return sorted(seconds for seconds, _ in self.found)

    @property
    def middle(self) -> tuple[float, Counter[str]]:
        """The median round (of an even number the faster of both)."""
        return sorted(self.found, key=lambda one: one[0])[(len(self.found) - 1) // 2]


def in_turns(
    works: Sequence[tuple[Callable[[], object], int]],
    forms: Sequence[str],
    parts: tuple[tuple[str, Any, str], ...],
    before_each: Callable[[], None],
) -> list[dict[str, Rounds]]:
    """Run every work with its number of rounds, in each round all works in every form.

    Returns:
        For each work its rounds by form.
    """
    taken = [{form: Rounds() for form in forms} for _ in works]
    for work, _ in works:
        work()
    for number in range(max((rounds for _, rounds in works), default=0)):
        for (work, rounds), found in zip(works, taken, strict=True):
            if number >= rounds:
                continue
            before_each()
            for form in forms if number % 2 else reversed(forms):
                with as_form(form), clocked(parts) as clock:
                    found[form].found.append(_timed(work, clock))
    return taken


def _timed(work: Callable[[], object], clock: Clock) -> tuple[float, Counter[str]]:
    start = clock.now()
    work()
    whole = clock.now() - start
    clock.seconds[budget.REST] = whole - sum(clock.seconds.values())
    return whole, clock.seconds


@contextmanager
def as_form(form: str) -> Iterator[None]:
    """Attention in float32 where BEFORE is asked for."""
    with patch.object(attention, "BFLOAT16_PAYS", False) if form == BEFORE else nullcontext():
        yield


def bfloat16_pays() -> bool:
    """What attention goes by, but for instructions that oneDNN is told not to use.

    torch tells of the processor and knows nothing of that.
    """
    most = os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT").upper()
    return attention.BFLOAT16_PAYS and ("AMX" in most or most in ("DEFAULT", "ALL"))


def piece(model: SA3Model, seconds: float, batch: int) -> tuple[Callable[[], object], int]:
    """A generation of STEPS steps, and its valid frames."""
    total = target_frames(seconds, model.sample_size)
    tokens = drawn((batch, PROMPT_TOKENS, TEXT_WIDTH), 1)
    text = TextConditioning(tokens, torch.ones(batch, PROMPT_TOKENS, dtype=torch.bool))
    start = StartLatent(torch.zeros(batch, LATENT_CHANNELS, total), (seconds,) * batch)
    settings = SampleSettings(steps=STEPS)
    work = lambda: sample_latent(model, start, settings, text, None, Seeds(1))  # noqa: E731
    return work, valid_frames(seconds, total)


def needed(model: SA3Model, frames: int) -> tuple[float, float]:
    """FLOPs of one item's generation, and those of them that are attention among frames."""
    config = model.dit.config
    pairs, tokens = 2 if config.differential else 1, config.memory_tokens + frames
    among = 4.0 * STEPS * config.depth * pairs * tokens * tokens * config.width
    return flops.generation(config, frames, PROMPT_TOKENS, STEPS), among


def pieces_in_turns(
    options: Options, model: SA3Model, name: str, forms: Sequence[str], limits: Limits
) -> list[tuple[float, int, tuple[float, float], dict[str, Rounds]]]:
    """Seconds, batch, what is `needed` and what each form took, of every piece in a dtype."""
    pieces = [p for p in PIECES if name == "bf16" or p[0] == PIECES[-1][0]]
    pieces = [p for p in pieces if not options.seconds or p[0] in options.seconds]
    made = [piece(model, seconds / (20 if options.quick else 1), b) for seconds, b in pieces]
    works = []
    for (seconds, batch), (work, _) in zip(pieces, made, strict=True):
        count = ROUNDS if seconds * batch <= 30 and name == "bf16" else LONG_ROUNDS
        works.append((work, options.rounds or (1 if options.quick else count)))
    rounds = in_turns(works, forms, budget.PARTS, lambda: limits.look(name))
    found = [
        (seconds, batch, needed(model, frames), taken)
        for (seconds, batch), (_, frames), taken in zip(pieces, made, rounds, strict=True)
    ]
    for seconds, batch, _, taken in found:
        for form, some in taken.items():
            each = [round(s / STEPS / batch, 3) for s in some.seconds]
            print(f"{_label(seconds, batch)}, {name}, {form}: {each} s a step", flush=True)
    return found


def transformer(options: Options, dtype: torch.dtype, limits: Limits) -> list[str]:
    """Tables of all pieces in one dtype; in float32 only how batches compare."""
    folder = checkpoint("tiny-s" if options.quick else "small-music")
    name = "bf16" if dtype == torch.bfloat16 else "fp32"
    model = load_model(folder, dtype=dtype)
    forms = (AS_IT_IS, BEFORE) if name == "bf16" and attention.BFLOAT16_PAYS else (AS_IT_IS,)
    found = pieces_in_turns(options, model, name, forms, limits)
    lines = [
        *(f"## Transformer, {name}", ""),
        "| audio | form | seconds a step and piece (lowest - highest) | of the limit (fastest) |",
        "|---|---|---|---|",
    ]
    rate = limits.best[name]
    for seconds, batch, (whole, _), taken in found:
        for form, rounds in taken.items():
            limit = batch * whole / rate
            each = [s / STEPS / batch for s in rounds.seconds]
            share, best = limit / rounds.middle[0], limit / rounds.seconds[0]
            lines.append(
                f"| {_label(seconds, batch)} | {form} | {statistics.median(each):.3f} "
                f"({each[0]:.3f} - {each[-1]:.3f}) | {share:.0%} ({best:.0%}) |"
            )
    if name == "fp32":
        return [*lines, ""]
    for seconds, batch, (whole, among), taken in found:
        limit = {
            budget.PRODUCTS: batch * (whole - among) / rate,
            budget.ATTENTION: batch * among / rate,
        }
        lines += ["", f"### {_label(seconds, batch)}: where a step goes", ""]
        lines += causes(taken[AS_IT_IS].middle, limit, STEPS * batch)
    return [*lines, ""]


def causes(middle: tuple[float, Counter[str]], limit: dict[str, float], share_of: int) -> list[str]:
    """A table of causes, the longest first; what has a limit is split at it."""
    whole, seconds = middle
    rows: list[tuple[str, float]] = []
    for cause, took in seconds.items():
        least = min(limit.get(cause, 0.0), took)
        if least:
            rows += [(f"{cause}, at the limit", least), (f"{cause}, beyond it", took - least)]
        else:
            rows.append((cause, took))
    rows.sort(key=lambda row: -row[1])
    lines = ["| cause | ms | share |", "|---|---|---|"]
    return lines + [f"| {c} | {1e3 * s / share_of:.1f} | {s / whole:.1%} |" for c, s in rows]


def _label(seconds: float, batch: int) -> str:
    return f"{seconds:g} s" if batch == 1 else f"{batch} x {seconds:g} s"


def whole_run(options: Options, limits: Limits) -> list[str]:
    """From the prompt to samples, by stage."""
    folder = checkpoint("tiny-s" if options.quick else "small-music")
    same = load_autoencoder(folder, torch.float32)
    text = load_t5gemma(folder / "t5gemma-b-b-ul2", torch.float32)
    made = Pipeline(load_model(folder, dtype=torch.bfloat16), text, same)
    seconds = WHOLE_SECONDS / (20 if options.quick else 1)
    numbers = iter(range(1000))  # a prompt that was encoded before is not encoded again

    def work() -> object:
        prompt = f"warm analog synth pad, slow attack {next(numbers)}"
        settings = SampleSettings(steps=WHOLE_STEPS)
        return generate(made, GenerateRequest([prompt], (), [seconds], settings))

    def look() -> None:
        limits.look("bf16")
        limits.look("fp32")

    count = options.rounds or (1 if options.quick else 3)
    (taken,) = in_turns([(work, count)], (AS_IT_IS,), WHOLE, look)
    job = Job("pipeline", str(folder), "bf16", seconds)
    total = target_frames(seconds, made.model.sample_size)
    config = made.model.dit.config
    valid = valid_frames(seconds, total)
    narrow = flops.generation(config, valid, PROMPT_TOKENS, WHOLE_STEPS) / limits.best["bf16"]
    wide = text_flops(job) + flops.same_decode(same.config, effective_frames(seconds))
    wide /= limits.best["fp32"]
    rounds = taken[AS_IT_IS]
    return [
        *("## Whole run, 30 s, 8 steps, transformer in bfloat16", ""),
        f"{rounds.middle[0]:.2f} s ({rounds.seconds[0]:.2f} - {rounds.seconds[-1]:.2f}), "
        f"{(narrow + wide) / rounds.middle[0]:.0%} of the limit; the limit is {narrow:.2f} s of "
        f"products in bfloat16 and {wide:.2f} s in float32.",
        "",
        *causes(rounds.middle, {}, 1),
        "",
    ]


def run(options: Options) -> str:
    """Measure and return the tables as Markdown."""
    limits, lines = Limits(options.quick), list[str]()
    busy, start = machine.busy_seconds(), time.monotonic()
    own = time.process_time()
    only = options.only or ("bf16", "fp32", "whole")
    with patch.object(attention, "BFLOAT16_PAYS", bfloat16_pays()), torch.inference_mode():
        if "bf16" in only:
            lines += transformer(options, torch.bfloat16, limits)
        if "whole" in only:
            lines += whole_run(options, limits)
        if "fp32" in only:
            lines += transformer(options, torch.float32, limits)
    after, load = machine.busy_seconds(), "unknown"
    if busy is not None and after is not None:
        others = after - busy - (time.process_time() - own)
        load = f"{max(0.0, others) / (time.monotonic() - start):.1f} processors"
    found = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in limits.best.items())
    title = [
        *("# Budget", "", f"{machine.describe()}, {torch.get_num_threads()} threads."),
        f"torch {torch.__version__}. Limits: {found}. Others took {load} meanwhile.",
        "",
    ]
    return "\n".join([*title, *lines])
