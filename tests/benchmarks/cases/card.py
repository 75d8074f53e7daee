"""Everything we want to know of a card in one run: what agrees, how fast it is, what it takes.

Every row is one question. They are asked in processes of their own, what is measured one by one and
parity variant by variant, so that what a card cannot do is a row with its reason and not the end of
the run. Results agree with the stored ones of the reference, or
with our own in another form of the same work; a row that does not agree makes the run fail.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from tests.benchmarks.cases.card_plan import Question, expected_seconds, plan, together
from tests.benchmarks.cases.options import BenchmarkError, Options
from tests.benchmarks.measuring import machine
from tests.benchmarks.measuring.ask import ask
from tests.benchmarks.report import size

NOTHING = "n/a"
MINUTES = 25.0  # of the whole run; what is left then is named
MOST_MINUTES = 5.0  # of one process: what hangs leaves time for the others
HEADER = ("part", "what", "precision", "seconds", "peak memory", "difference", "agrees", "remark")


@dataclass(frozen=True)
class Answer:
    """What came of a question.

    Attributes:
        seconds: of the work, None = nothing was timed.
        memory: highest bytes while it ran, beside the weights where the card tells.
        difference: relative L2 to what it should be.
        limit: of the difference.
        remark: why there is no number, or what else there is to know.
        failed: whether it could not be done.
    """

    seconds: float | None = None
    memory: float | None = None
    difference: float | None = None
    limit: float | None = None
    remark: str = ""
    failed: bool = False

    @property
    def agrees(self) -> bool | None:
        """None = there is nothing to agree with."""
        if self.difference is None or self.limit is None:
            return None
        return self.difference <= self.limit


def run(options: Options) -> str:
    """Ask everything and write the table and `bench_card.json`.

    Raises:
        BenchmarkError: something does not agree, or parity could not be looked at.
    """
    device = chosen_device(options.device)
    questions = [q for q in plan(device, options) if not options.only or q.part in options.only]
    minutes = expected_seconds(questions) / 60
    print(f"{len(questions)} questions, on a card about {minutes:.0f} minutes", flush=True)
    end = time.monotonic() + 60 * MINUTES
    found: list[tuple[Question, Answer]] = []
    for group in together(questions):
        for question, answer in zip(group, _answered(group, _left(end)), strict=True):
            found.append((question, answer))
            print(" | ".join(_cells(question, answer)), flush=True)
        _write(options.out, device, found)
    table = _table(device, found)
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


def _cells(question: Question, answer: Answer) -> list[str]:
    agrees = {True: "yes", False: "NO", None: NOTHING}[answer.agrees]
    difference = NOTHING
    if answer.difference is not None:
        difference = f"{answer.difference:.1e}"
        if answer.limit is not None:
            difference += f" (at most {answer.limit:.0e})"
    return [
        *(question.part, question.what, question.precision),
        NOTHING if answer.seconds is None else f"{answer.seconds:.3g}",
        NOTHING if answer.memory is None else size(answer.memory),
        *(difference, agrees, answer.remark.replace("|", "/").replace("\n", " ")),
    ]


def _table(device: str, found: list[tuple[Question, Answer]]) -> str:
    done = sum(a.seconds is not None or a.difference is not None for _, a in found)
    lines = [
        *(f"# Card: {device}", "", f"{machine.describe()}; torch {torch.__version__}."),
        f"{done} of {len(found)} questions have an answer; the others say why not.",
        *("", "| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)),
    ]
    lines += ["| " + " | ".join(_cells(q, a)) + " |" for q, a in found]
    return "\n".join([*lines, ""])


def _write(out: Path, device: str, found: list[tuple[Question, Answer]]) -> None:
    (out / "bench_card.md").write_text(_table(device, found), encoding="utf-8")
    rows = [{**asdict(q), **asdict(a), "agrees": a.agrees} for q, a in found]
    whole = {"device": device, "machine": machine.describe(), "torch": torch.__version__}
    text = json.dumps({**whole, "rows": rows}, indent=1)
    (out / "bench_card.json").write_text(text, encoding="utf-8")
