"""What the checks cost: non-finite weights, changed files, results that are not finite.

A model is opened and a first piece is made; the checks' own time is counted where they are called,
so one run tells their share whatever else the machine does. Weights that a check reads first are
brought into memory by it, and the net finds them there: the share is an upper bound.
"""

from __future__ import annotations

import importlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sa3_core.pipeline import GenerateRequest, generate, load_pipeline
from sa3_core.sampling.settings import SampleSettings
from tests.benchmarks.cases.options import BenchmarkError, Options
from tests.benchmarks.checkpoints import checkpoint

MOST = 0.03  # of the whole, and of sampling
WEIGHTS, SAMPLING = "non-finite weights", "files and results while sampling"
PLACES = {
    WEIGHTS: (
        ("text.encoder_file", "check_finite"),
        ("text.encoder", "check_finite"),
        ("checkpoints.reader", "check_finite"),
    ),
    SAMPLING: (
        ("sampling.sample", "check_sound"),
        ("sampling.sample", "unsound_items"),
        ("sampling.sample", "_Watch.__call__"),
        ("sampling.start", "check_sound"),
        ("files.states", "FileStates.check"),
    ),
}


@contextmanager
def counted(spent: dict[str, float]) -> Iterator[None]:
    """Add the seconds of every check to `spent`, by kind."""
    undo: list[Callable[[], None]] = []
    for kind, places in PLACES.items():
        for module, path in places:
            owner: Any = importlib.import_module(f"sa3_core.{module}")
            *above, name = path.split(".")
            for part in above:
                owner = getattr(owner, part)
            original = getattr(owner, name)
            setattr(owner, name, _timed(original, spent, kind))
            undo.append(lambda o=owner, n=name, f=original: setattr(o, n, f))
    try:
        yield
    finally:
        for put_back in undo:
            put_back()


def _timed(work: Callable[..., Any], spent: dict[str, float], kind: str) -> Callable[..., Any]:
    def call(*args: Any, **more: Any) -> Any:
        begin = time.perf_counter()
        try:
            return work(*args, **more)
        finally:
            spent[kind] += time.perf_counter() - begin

    return call


def first_run(
    folder: Path, seconds: float, dtype: torch.dtype
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of opening, sampling and the whole, and those of the checks by kind."""
    spent: dict[str, float] = defaultdict(float)
    took: dict[str, float] = {}
    begin = time.perf_counter()
    with counted(spent):
        pipeline = load_pipeline(folder, dtype=dtype)
        took["open"] = time.perf_counter() - begin
        marks: list[float] = []
        generate(
            pipeline,
            GenerateRequest(["warm pad"], (), [seconds], SampleSettings()),
            on_progress=lambda stage, *_: marks.append(time.perf_counter()),
        )
    took["whole"] = time.perf_counter() - begin
    took["sampling"] = marks[-1] - begin - took["open"]
    return took, spent


def run(options: Options) -> str:
    """Open small-music and make 30 s; a table of shares, and an error above MOST."""
    folder = checkpoint("tiny-s" if options.quick else "small-music")
    seconds = 3.0 if options.quick else (options.seconds or (30.0,))[0]
    lines = [
        f"# Checks: small-music, random weights, {seconds:g} s, {torch.get_num_threads()} threads",
        "",
        "| dtype | open s | whole s | weights' check s | share of the whole | "
        "checks while sampling s | share of sampling |",
        "|---|---|---|---|---|---|---|",
    ]
    above = []
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        took, spent = first_run(folder, seconds, dtype)
        shares = spent[WEIGHTS] / took["whole"], spent[SAMPLING] / took["sampling"]
        lines.append(
            f"| {name} | {took['open']:.2f} | {took['whole']:.2f} | {spent[WEIGHTS]:.3f} | "
            f"{shares[0]:.1%} | {spent[SAMPLING]:.4f} | {shares[1]:.2%} |"
        )
        above += [name] if max(shares) > MOST else []
    table = "\n".join(lines) + "\n"
    if above and not options.quick:
        raise BenchmarkError(f"more than {MOST:.0%} in {', '.join(above)}", table)
    return table
