"""Questions to a process of their own, as JSON; a crash or a long wait is an answer, too."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tests.benchmarks.checkpoints import ROOT


def ask(
    module: str, questions: Sequence[dict[str, Any]], seconds: float
) -> Iterator[dict[str, Any]]:
    """Run `python -m module QUESTIONS` and read a line of its output for each of them.

    A process that ends early has failed at the question it had come to; those behind it go to
    another one.

    Args:
        module: is told the questions as a JSON list; prints a line of JSON for each, in order.
        questions: at least one.
        seconds: all of them may take.

    Yields:
        For each question what was printed, or `failed` and a `remark` that says why there is
        nothing.
    """
    waiting, end = list(questions), time.monotonic() + seconds
    while waiting:
        answers, why = _asked(module, waiting, max(1.0, end - time.monotonic()))
        yield from answers
        del waiting[: len(answers)]
        if waiting:
            yield {"failed": True, "remark": why}
            del waiting[0]


def _asked(
    module: str, questions: list[dict[str, Any]], seconds: float
) -> tuple[list[dict[str, Any]], str]:
    """The answers that one process gave, and why there are no more."""
    command = [sys.executable, "-m", module, json.dumps(questions)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=seconds
        )
    except subprocess.TimeoutExpired as over:
        said = over.stdout or b""
        told = said if isinstance(said, str) else said.decode(errors="replace")
        return _answers(told, len(questions)), f"took longer than {seconds:.0f} s"
    words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return _answers(done.stdout, len(questions)), words[-1][:200]


def _answers(told: str, most: int) -> list[dict[str, Any]]:
    """The lines that are JSON objects; libraries may print others."""
    found = []
    for line in told.splitlines():
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found[:most]
