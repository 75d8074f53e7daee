"""Running a job: what is done stays, the rest is made, and what came out is written down."""

import logging
from argparse import Namespace as Values
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.lock import only_one
from .buckets import LARGEST, Bucket, bucket_rows
from .outcome import DONE, Outcome, Results
from .row import Row
from .spec import JobSpec

log = logging.getLogger(__name__)

Engine = Callable[[Sequence[Bucket]], Iterator[Outcome]]
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
        left = [row for row in rows if not results.is_done(row)]
        made = 0
        try:
            made = _run(spec, left, engine, results, on_row)
        finally:
            results.finish(rows)
        failed = tuple(results.failed(rows))
    return Summary(made, len(rows) - len(left), failed, results.path)


def _run(
    spec: JobSpec, rows: Sequence[Row], engine: Engine, results: Results, on_row: OnRow
) -> int:
    by_id = {row.id: row for row in rows}
    made = 0
    buckets = bucket_rows(valued(spec, rows), spec.computing.batch or LARGEST)
    for done, outcome in enumerate(engine(buckets), 1):
        results.add(by_id[outcome.id], outcome)
        made += outcome.outcome == DONE
        on_row(done, len(rows), outcome)
    return made


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
