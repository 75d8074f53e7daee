"""Everything we want to know of a card in one run: what agrees, how fast it is, what it takes.

Every row is one question. They are asked in processes of their own, what is measured one by one and
parity variant by variant, so that what a card cannot do is a row with its reason and not the end of
the run. Results agree with the stored ones of the reference, or with our own in another form of the
same work; a row that does not agree makes the run fail.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import torch

from tests.benchmarks.cases.card_plan import Question, expected_seconds, plan, together
from tests.benchmarks.cases.card_report import Answer, cells, report, versions
from tests.benchmarks.cases.options import BenchmarkError, Options
from tests.benchmarks.measuring import machine
from tests.benchmarks.measuring.ask import ask

MINUTES = 25.0  # of the whole run; what is left then is named
MOST_MINUTES = 5.0  # of one process: what hangs leaves time for the others


def run(options: Options) -> str:
    """Ask everything and write the table and `bench_card.json`.

    Raises:
        BenchmarkError: something does not agree, or parity could not be looked at.
    """
    device = chosen_device(options.device)
    questions = [q for q in plan(device, options) if not options.only or q.part in options.only]
    minutes = expected_seconds(questions) / 60
    known = f", on a card about {minutes:.0f} minutes" if device != "cpu" else ""
    print(f"{len(questions)} questions{known}", flush=True)
    end = time.monotonic() + 60 * MINUTES
    found: list[tuple[Question, Answer]] = []
    for group in together(questions):
        for question, answer in zip(group, _answered(group, _left(end)), strict=True):
            found.append((question, answer))
            print(" | ".join(filter(None, cells(question, answer))), flush=True)
        _write(options, device, found)
    table = report(device, found, options.quick)
    wrong = [q.name for q, a in found if a.agrees is False or (a.failed and q.part == "parity")]
    if wrong:
        raise BenchmarkError(f"does not agree: {', '.join(wrong)}", table)
    return table


def chosen_device(name: str) -> str:
    """`auto` is CUDA, else MPS, else the CPU."""
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _left(end: float) -> float:
    """Seconds that the next process may take."""
    return min(end - time.monotonic(), 60 * MOST_MINUTES)


def _answered(group: Sequence[Question], seconds: float) -> Iterator[Answer]:
    """Ask in a process of its own; what goes wrong there is the answer."""
    able = [asdict(question) for question in group if not question.unable]
    found = iter(ask("tests.benchmarks.cases.card_work", able, seconds) if seconds > 0 else ())
    over = Answer(remark=f"not begun: {MINUTES:g} minutes were over", failed=True)
    for question in group:
        if question.unable:
            yield Answer(remark=question.unable)
        else:
            yield Answer(**next(found)) if seconds > 0 else over


def _write(options: Options, device: str, found: list[tuple[Question, Answer]]) -> None:
    text = report(device, found, options.quick)
    (options.out / "bench_card.md").write_text(text, encoding="utf-8")
    rows = [{**asdict(q), **asdict(a), "agrees": a.agrees} for q, a in found]
    whole = {"device": device, "machine": machine.describe(), "versions": versions()}
    text = json.dumps({**whole, "quick": options.quick, "rows": rows}, indent=1)
    (options.out / "bench_card.json").write_text(text, encoding="utf-8")
