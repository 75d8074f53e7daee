"""Running a job: what is done stays, the rest is made, and what came out is written down."""

import logging
from argparse import Namespace as Values
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.lock import only_one
from .buckets import LARGEST, Bucket, bucket_rows
from .outcome import DONE, Outcome, Results
from .row import Row
from .shards import Shards
from .spec import JobSpec

log = logging.getLogger(__name__)

Engine = Callable[[Sequence[Bucket]], Generator[Outcome, None, None]]
OnRow = Callable[[int, int, Outcome], None]  # done, total, the last; may raise to stop


@dataclass(frozen=True)
class Summary:
    """What came out of a job.

    Attributes:
        made: rows made now.
        kept: rows that were there already.
        failed: lines of the rows that were not made.
        results: the file that tells of all.
    """

    made: int
    kept: int
    failed: tuple[dict[str, Any], ...]
    results: Path

    def __str__(self) -> str:
        """`7 made, 1 kept, 1 failed`"""
        return f"{self.made} made, {self.kept} kept, {len(self.failed)} failed"


def run_job(
    spec: JobSpec,
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
    settled = spec.settled()
    digests = {row.id: row.digest(settled) for row in rows}
    with only_one(spec.out):
        results = Results(spec.out, digests, {"licence": licence_of(spec)})
        if results.found and not resume:
            raise InputError(
                f"{spec.out} holds results already. Go on with them (resume), or choose another "
                "folder."
            )
        kept, left = [], []
        for row in rows:
            (kept if results.is_done(row) else left).append(row)
        shards = _shards(spec, kept, results)
        made = 0
        try:
            with closing(_made(spec, left, engine, results, shards)) as outcomes:
                for done, outcome in enumerate(outcomes, 1):
                    made += outcome.outcome == DONE
                    on_row(done, len(left), outcome)
        finally:
            results.finish(rows)
        failed = tuple(results.failed(rows))
    return Summary(made, len(kept), failed, results.path)


def _shards(spec: JobSpec, kept: Sequence[Row], results: Results) -> Shards | None:
    """The packer, with what an interrupted run left unpacked."""
    if not spec.shards:
        return None
    shards = Shards(spec.out, results)
    shards.adopt({row.id: row for row in kept})
    for row in kept:
        shards.add(row)
    return shards


def _made(
    spec: JobSpec, rows: Sequence[Row], engine: Engine, results: Results, shards: Shards | None
) -> Generator[Outcome, None, None]:
    """Outcomes as they come, each written down before it is told."""
    by_id = {row.id: row for row in rows}
    buckets = bucket_rows(valued(spec, rows), spec.computing.batch or LARGEST)
    with closing(engine(buckets)) as outcomes:  # its processes end with it
        for outcome in outcomes:
            row = by_id[outcome.id]
            results.add(row, outcome)
            if shards is not None and outcome.outcome == DONE:
                shards.add(row)
            yield outcome
    if shards is not None:
        shards.flush()


def valued(spec: JobSpec, rows: Sequence[Row]) -> Iterator[tuple[Row, Values]]:
    """Rows with their values."""
    for row in rows:
        yield row, row.values(spec.defaults, spec.folder)


def licence_of(spec: JobSpec) -> str | None:
    """The first line of the licence file beside the models; None = they bring none."""
    for files in spec.models.values():
        folder = files.model if files.model.is_dir() else files.model.parent
        for path in sorted(folder.glob("LICEN[CS]E*")):
            lines = path.read_text("utf-8", "replace").split("\n")
            return next((line.strip() for line in lines if line.strip()), None)
    return None
