"""Running a job: what is done stays, the rest is made, and what came out is written down."""

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import InputError
from ..files.lock import only_one
from .buckets import Bucket
from .outcome import DONE, Outcome, Results
from .row import Row
from .shards import Shards

log = logging.getLogger(__name__)

Engine = Callable[[Sequence[Bucket]], Generator[Outcome, None, None]]
OnRow = Callable[[int, int, Outcome], None]  # done, total, the last; may raise to stop


class Job(Protocol):
    """What a run has to know of a job."""

    @property
    def out(self) -> Path:
        """Folder of the results."""
        ...

    @property
    def shards(self) -> bool:
        """Whether results are packed into tars."""
        ...

    def digest(self, row: Row) -> str:
        """A hash of all that a row's result depends on."""
        ...

    def notes(self) -> dict[str, Any]:
        """What every line of the results says beside the outcome."""
        ...

    def buckets(self, rows: Sequence[Row]) -> list[Bucket]:
        """Rows that go together."""
        ...

    def settle(self, rows: Sequence[Row], results: Results) -> None:
        """What is decided when all rows have ended."""
        ...


@dataclass(frozen=True)
class Summary:
    """What came out of a job.

    Attributes:
        made: rows made now.
        kept: rows that were there already.
        failed: lines of the rows that were not made.
        results: the file that tells of all.
        loose: rows that no shard could be written for: their files lie singly.
    """

    made: int
    kept: int
    failed: tuple[dict[str, Any], ...]
    results: Path
    loose: int = 0

    def __str__(self) -> str:
        """`7 made, 1 kept, 1 failed`"""
        return f"{self.made} made, {self.kept} kept, {len(self.failed)} failed"


def run_job(
    spec: Job,
    rows: Sequence[Row],
    engine: Engine,
    resume: bool = False,
    on_row: OnRow = lambda done, total, outcome: None,
) -> Summary:
    """Make the rows that are not there yet.

    Args:
        spec: the job; its folder is made where it is missing.
        rows: checked.
        engine: makes buckets; outcomes may come in any order.
        resume: go on in a folder that holds results.
        on_row: told after each row.

    Raises:
        InputError: another process works in the folder, or it holds results and `resume` is off.
        OSError: the folder or the results cannot be written.
    """
    spec.out.mkdir(parents=True, exist_ok=True)
    digests = {row.id: spec.digest(row) for row in rows}
    with only_one(spec.out):
        results = Results(spec.out, digests, spec.notes())
        if results.found and not resume:
            raise InputError(
                f"{spec.out} holds results already. Go on with them (resume), or choose another "
                "folder."
            )
        kept, left = [], []
        for row in rows:
            (kept if results.is_done(row) else left).append(row)
        shards = _shards(spec, kept, results)
        try:
            with closing(_made(spec, left, engine, results, shards)) as outcomes:
                for done, outcome in enumerate(outcomes, 1):
                    on_row(done, len(left), outcome)
        finally:
            spec.settle(rows, results)
            results.finish(rows)
    lines = results.lines(rows)
    failed = tuple(line for line in lines if line["outcome"] != DONE)
    before = {row.id for row in kept}
    stayed = sum(line["id"] in before and line["outcome"] == DONE for line in lines)
    made = len(lines) - len(failed) - stayed
    return Summary(made, stayed, failed, results.path, len(shards.waiting) if shards else 0)


def _shards(spec: Job, kept: Sequence[Row], results: Results) -> Shards | None:
    """The packer, with what an interrupted run left unpacked."""
    if not spec.shards:
        return None
    shards = Shards(spec.out, results)
    shards.adopt({row.id: row for row in kept})
    for row in kept:
        shards.add(row)
    return shards


def _made(
    spec: Job, rows: Sequence[Row], engine: Engine, results: Results, shards: Shards | None
) -> Generator[Outcome, None, None]:
    """Outcomes as they come, each written down before it is told."""
    by_id = {row.id: row for row in rows}
    with closing(engine(spec.buckets(rows))) as outcomes:  # its processes end with it
        for outcome in outcomes:
            row = by_id[outcome.id]
            results.add(row, outcome)
            if shards is not None and outcome.outcome == DONE:
                shards.add(row)
            yield outcome
    if shards is not None:
        shards.flush()
