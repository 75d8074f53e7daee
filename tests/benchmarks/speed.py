"""Speed and memory beside ComfyUI's native modules and diffusers, and beside the machine's limit.

Every implementation computes in a process of its own, one at a time, in turns, on the same
weights, inputs, dtype and threads. Results are compared before times count.
"""

from __future__ import annotations

import itertools

import torch

from .fleet import Fleet
from .measure import Measured, Peaks, measure
from .options import BenchmarkError, Options
from .report import Report
from .tasks import TASKS, Plan


def run(options: Options) -> str:
    """Measure and return the table; it is also written after every part.

    Raises:
        BenchmarkError: implementations disagree, or ours gave no result; the table says which.
    """
    names = options.only or tuple(TASKS)
    unknown = set(names) - set(TASKS)
    if unknown:
        raise SystemExit(f"unknown part {', '.join(unknown)}; known: {', '.join(TASKS)}")
    plan = Plan(options.quick, options.rounds, options.peers, options.slow)
    rows = [plan.pick(row) for name in names for row in TASKS[name](plan)]
    rows = [row for row in rows if not options.seconds or row.length in options.seconds]
    threads, found = torch.get_num_threads(), list[Measured]()
    with Fleet(threads) as fleet:
        peaks = Peaks(fleet, "cpu", options.quick)
        report = Report("cpu", threads, peaks.rates, found, [])
        for _, group in itertools.groupby(rows, lambda row: (row.task, row.job.folder)):
            for row in group:
                found.append(measure(row, fleet, peaks, lambda text: print(text, flush=True)))
                (options.out / "bench_speed.md").write_text(report.text(), encoding="utf-8")
            fleet.dismiss()
    report.picture(options.out / "bench_speed.png")
    if not report.ok:
        raise BenchmarkError("implementations disagree, or ours gave no result", report.text())
    return report.text()
