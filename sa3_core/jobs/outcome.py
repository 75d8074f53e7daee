"""What became of the rows: `manifest.jsonl`, a line per row, written as they end."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..files.whole_file import whole_file, write_failure
from .row import Row

log = logging.getLogger(__name__)

RESULTS = "manifest.jsonl"
DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Attributes:
        id: the row's.
        outcome: `done` or `failed`.
        error: why it failed.
        file: its name in the folder.
        bytes: its size.
        seconds: duration of the sound.
        sample_rate: Hz.
        peak: largest sample.
        lufs: integrated loudness; None for silence.
        seed: that it was made from.
        more: what else the line says; `files` of a row that makes several: their sizes by name,
            None where only a file has to be there.
    """

    id: str
    outcome: str
    error: str = ""
    file: str = ""
    bytes: int = 0
    seconds: float | None = None
    sample_rate: int | None = None
    peak: float | None = None
    lufs: float | None = None
    seed: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


class Results:
    """The results of a folder, kept up to date line by line.

    The file is only ever added to while a job runs, so that a crash costs at most the line being
    written; when the job ends it is written anew in the manifest's order.
    """

    def __init__(self, folder: Path, digests: Mapping[str, str], notes: Mapping[str, Any]) -> None:
        """Read what an earlier run left.

        Args:
            folder: there already.
            digests: hash of each row of this job, by id.
            notes: what every line says beside the outcome.
        """
        self.path = folder / RESULTS
        self._folder, self._digests, self._notes = folder, digests, dict(notes)
        self._lines = {line["id"]: line for line in read_results(self.path)}
        self._torn = self.path.is_file() and self.path.read_bytes()[-1:] != b"\n"

    @property
    def found(self) -> bool:
        """Whether an earlier run left results."""
        return bool(self._lines)

    def is_done(self, row: Row) -> bool:
        """Whether the row's file is there, and its line agrees with the row and the file."""
        line = self._lines.get(row.id)
        if (
            line is None
            or line.get("outcome") != DONE
            or line.get("digest") != self._digests[row.id]
        ):
            return False
        if line.get("shard"):
            return (self._folder / line["shard"]).is_file()
        try:
            sizes = line.get("files") or {line["file"]: line["bytes"]}
            found = ((size, (self._folder / name).stat().st_size) for name, size in sizes.items())
            return all(size in (None, there) for size, there in found)
        except (OSError, KeyError, TypeError, AttributeError):
            return False

    def line(self, row: Row) -> dict[str, Any]:
        """The line of a row."""
        return self._lines[row.id]

    def add(self, row: Row, outcome: Outcome) -> None:
        """Keep an outcome, and write its line; a full disk costs the line, not the job."""
        told = asdict(outcome)
        more = told.pop("more")
        line = {**told, **more, "digest": self._digests[row.id], "row": dict(row.cells)}
        self._put({**line, **self._notes})

    def moved(self, row: Row, shard: str) -> None:
        """Say that a row's file lies in a shard now."""
        self.change(row, {"shard": shard})

    def change(self, row: Row, values: Mapping[str, Any]) -> None:
        """Say something else, or more, about a row that has ended."""
        self._put({**self._lines[row.id], **values})

    def _put(self, line: dict[str, Any]) -> None:
        self._lines[line["id"]] = line
        try:
            with self.path.open("ab") as file:
                file.write((b"\n" if self._torn else b"") + _written(line))
            self._torn = False
        except OSError as error:
            self._torn = True
            log.warning("%s", write_failure(self.path, error))

    def finish(self, rows: Iterable[Row]) -> None:
        """Write all lines in the manifest's order; those of rows that it no longer has go last.

        Raises:
            OSError: the file cannot be written; the lines that were added stay.
        """
        order = {row.id: None for row in rows}
        lines = [self._lines[key] for key in order if key in self._lines]
        lines += [line for key, line in self._lines.items() if key not in order]
        with whole_file(self.path) as whole:
            whole.file.writelines(map(_written, lines))

    def lines(self, rows: Iterable[Row]) -> list[dict[str, Any]]:
        """The lines of rows that have ended."""
        lines = (self._lines.get(row.id) for row in rows)
        return [line for line in lines if line]


def read_results(path: Path) -> list[dict[str, Any]]:
    """The lines of a results file that can be read; a later one of an id follows the earlier."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text("utf-8", "replace").split("\n"):
        try:
            line = json.loads(text)
        except ValueError:
            continue  # torn when its writer was killed
        if isinstance(line, dict) and isinstance(line.get("id"), str):
            lines.append(line)
    return lines


def _written(line: Mapping[str, Any]) -> bytes:
    return (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "replace")
