"""Speed and memory beside ComfyUI's native modules, diffusers and the original implementation.

Every implementation computes in a process of its own, one at a time, in turns, on the same
weights, inputs, dtype and threads. Results are compared before times count.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import torch

from tests.benchmarks.cases.load import measure_load
from tests.benchmarks.cases.options import BenchmarkError, Options
from tests.benchmarks.cases.tasks import TASKS, Plan, Row
from tests.benchmarks.checkpoints import checkpoint
from tests.benchmarks.measuring import cuda
from tests.benchmarks.measuring.fleet import Fleet
from tests.benchmarks.measuring.measure import Measured, Peaks, measure
from tests.benchmarks.peers import reference
from tests.benchmarks.report import Report

PARTS = (*TASKS, "load", "cuda")
LOAD_ROUNDS = 3


def run(options: Options) -> str:
    """Measure and return the table; it is also written after every row.

    Raises:
        BenchmarkError: implementations disagree, or ours gave no result; the table says which.
    """
    names = options.only or PARTS
    unknown = set(names) - set(PARTS)
    if unknown:
        raise SystemExit(f"unknown part {', '.join(unknown)}; known: {', '.join(PARTS)}")
    if options.reference is not None:  # workers inherit it
        os.environ[reference.PATH] = str(reference.checkout(options.reference))
    original = options.reference is not None
    plan = Plan(options.quick, options.rounds, options.peers, options.slow, original)
    threads, found, notes = torch.get_num_threads(), list[Measured](), list[str]()
    with Fleet(threads) as fleet:
        peaks = Peaks(fleet, options.quick)
        report = Report(threads, peaks.rates, found, notes)
        for _, group in itertools.groupby(_rows(options, plan, names, notes), _folder):
            for row in group:
                found.append(measure(row, fleet, peaks, _say))
                _write(options.out, report)
            if not plan.quick:  # starting them takes longer than toys do
                fleet.dismiss()
    if "load" in names and options.device != "cuda":
        _say("load")
        folder = checkpoint("tiny-s" if plan.quick else "small-music")
        rounds = options.rounds or (1 if plan.quick else LOAD_ROUNDS)
        notes += [*measure_load(folder, rounds).lines(), ""]
    _write(options.out, report)
    report.picture(options.out / "bench_speed.png")
    if not report.ok:
        raise BenchmarkError("implementations disagree, or ours gave no result", report.text())
    return report.text()


def _rows(options: Options, plan: Plan, names: tuple[str, ...], notes: list[str]) -> list[Row]:
    """What is to be measured; what cannot be is noted."""
    rows: list[Row] = []
    if options.device != "cuda":
        rows += [row for name in names if name in TASKS for row in TASKS[name](plan)]
    if "cuda" in names:
        card = torch.cuda.is_available() and options.device != "cpu"
        if card or (plan.quick and options.device == "cpu"):
            rows += cuda.rows(plan, "cuda" if card else "cpu")
        notes += [cuda.PUBLISHED if card else cuda.MISSING, ""]
    rows = [plan.pick(row) for row in rows]
    return [row for row in rows if not options.seconds or row.length in options.seconds]


def _folder(row: Row) -> tuple[str, str]:
    """Rows that follow each other and agree in this share their worker processes."""
    return row.task, row.job.folder


def _write(out: Path, report: Report) -> None:
    (out / "bench_speed.md").write_text(report.text(), encoding="utf-8")


def _say(text: str) -> None:
    print(text, flush=True)
