"""Measures rows: implementations take turns, the machine's peak in between."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tests.benchmarks.cases.jobs import Job, implementation_job, is_ours
from tests.benchmarks.cases.tasks import PARITY, Row
from tests.benchmarks.measuring import machine
from tests.benchmarks.measuring.fleet import Fleet, WorkerError
from tests.benchmarks.measuring.peak import Rates

DISTURBED = 0.04  # share of the processors that others took during a run
SHORT = 1.0  # seconds; below it the system's own counting is too coarse to tell
REPEATS = 2  # how often a disturbed run is repeated


@dataclass
class Result:
    """What one implementation did on one row.

    Attributes:
        seconds: of each round.
        memory: highest bytes above the weights, None = unknown.
        vram: highest bytes on the card.
        difference: relative L2 to what our fp32 gives.
        repeats: disturbed runs that were done again.
        disturbed: share of the processors that others took in the runs that count, at most.
        error: why there is no result.
    """

    seconds: list[float] = field(default_factory=list)
    memory: float | None = None
    vram: float | None = None
    difference: float | None = None
    repeats: int = 0
    disturbed: float = 0.0
    error: str = ""

    @property
    def median(self) -> float | None:
        """Seconds."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def fastest(self) -> float | None:
        """Seconds."""
        return min(self.seconds, default=None)


@dataclass
class Measured:
    """A row with its results by implementation."""

    row: Row
    results: dict[str, Result]

    @property
    def ours(self) -> Result:
        """The first implementation's."""
        return self.results[self.row.implementations[0]]

    @property
    def fastest_peer(self) -> float | None:
        """Seconds."""
        others = [result.median for name, result in self.results.items() if not is_ours(name)]
        return min((seconds for seconds in others if seconds is not None), default=None)

    @property
    def disagreeing(self) -> list[str]:
        """Implementations whose fp32 result is another."""
        if self.row.job.dtype != "fp32":
            return []
        found = self.results.items()
        return [
            name for name, r in found if r.difference is not None and not r.difference <= PARITY
        ]


class Peaks:
    """The best matmul rates seen so far, by device and dtype."""

    def __init__(self, fleet: Fleet, quick: bool) -> None:
        self.rates: dict[tuple[str, str], Rates] = {}
        self._fleet, self._quick = fleet, quick

    def measure(self, row: Row) -> None:
        """Look once more at what the row's device does in the row's dtypes."""
        for dtype in dict.fromkeys([row.job.dtype, *(["fp32"] if row.fp32_flops else [])]):
            request = {"dtype": dtype, "device": row.job.device, "quick": self._quick}
            answer = Rates(**self._fleet.ask("peak", "peak", **request))
            key = row.job.device, dtype
            self.rates[key] = self.rates.get(key, Rates()).or_better(answer)


def relative(found: Tensor, expected: Tensor) -> float:
    """Relative L2 distance, over what both have of the last dimension."""
    length = min(found.shape[-1], expected.shape[-1]) if found.ndim == expected.ndim else 0
    a, b = found[..., :length].double(), expected[..., :length].double()
    return float((a - b).norm() / b.norm()) if a.shape == b.shape and length else float("inf")


def measure(row: Row, fleet: Fleet, peaks: Peaks, say: Callable[[str], None]) -> Measured:
    """Measure one row; an implementation that fails keeps its reason."""
    measured = Measured(row, {name: Result() for name in row.implementations})
    say(f"{row.name}, {row.length:g} s, {row.job.dtype}")
    for number in range(row.rounds):
        peaks.measure(row)
        names = list(row.implementations)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            result = measured.results[name]
            if result.error:
                continue
            try:
                _timed(row, name, fleet, result)
                if number == 0:
                    fleet.ask(name, "save", path=str(fleet.folder / f"{name}.pt"))
            except WorkerError as error:
                result.error = str(error)
            said = result.error or f"{result.seconds[-1]:.2f} s"
            say(f"    {name}: {said}")
    peaks.measure(row)
    _compare(measured, fleet.folder)
    return measured


def _ask_to_run(fleet: Fleet, name: str, job: Job) -> dict[str, float]:
    worker, own = implementation_job(name, job)
    return fleet.ask(name, "run", worker, job=asdict(own))


def _timed(row: Row, name: str, fleet: Fleet, result: Result) -> None:
    """One run, again when others disturbed it."""
    # While others had their turn, the system may have taken the weights' pages away.
    if row.warm is not None or not result.seconds:
        _ask_to_run(fleet, name, row.warm or row.job)
    for attempt in range(REPEATS + 1):
        busy, start = machine.busy_seconds(), time.monotonic()
        answer = _ask_to_run(fleet, name, row.job)
        wall, after = time.monotonic() - start, machine.busy_seconds()
        others = 0.0
        if busy is not None and after is not None:
            others = max(0.0, after - busy - answer["cpu"]) / (wall * (os.cpu_count() or 1))
        if others <= DISTURBED or wall < SHORT or attempt == REPEATS:
            break
        result.repeats += 1
    result.seconds.append(answer["seconds"])
    result.disturbed = max(result.disturbed, others)
    for key in ("memory", "vram"):
        if answer[key] is not None:
            setattr(result, key, max(getattr(result, key) or 0.0, answer[key]))


def _compare(measured: Measured, folder: Path) -> None:
    """Hold every result to the first fp32 one of the same work."""
    row = measured.row
    reference = folder / f"reference {row.result}.pt"
    if not reference.exists() and measured.ours.seconds:
        (folder / f"{row.implementations[0]}.pt").replace(reference)
        measured.ours.difference = 0.0
    if not reference.exists():
        return
    expected = torch.load(reference)
    for name, result in measured.results.items():
        path = folder / f"{name}.pt"
        if path.exists():
            result.difference = relative(torch.load(path), expected)
            path.unlink()
