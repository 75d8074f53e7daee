"""Sounds that commands listen to: files, folders of them, and what `sa3 generate --from` made."""

import csv
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.folder import CaptionRule, caption_of, list_recordings
from ..errors import InputError, SA3Error
from ..jobs.fields import COLUMNS, GENERATE
from ..jobs.outcome import DONE, RESULTS, read_results

log = logging.getLogger(__name__)

_COLUMNS = COLUMNS[GENERATE]  # those of `sa3 decode` are called the same
_IDS = ("id", "ytid", "audiocap_id", "caption_id")  # the second and later: published data sets'
_PROMPTS = ("prompt", "caption")


@dataclass(frozen=True)
class FoundClip:
    """A sound file.

    Attributes:
        id: its row's in a job, else the file's name without the ending.
        path: the file.
        prompt: what it was asked to be; '' = not known.
        seconds: how long it was asked to be; None = not known.
    """

    id: str
    path: Path
    prompt: str = ""
    seconds: float | None = None


def find_clips(path: Path) -> list[FoundClip]:
    """A file, the sounds of a folder, or those of a job's folder or results by their rows.

    Raises:
        InputError: nothing there, or a job whose files lie in tars.
    """
    results = path if path.name == RESULTS else path / RESULTS
    if results.is_file():
        return list(_made(results))
    if path.is_dir():
        return [
            FoundClip(recording.path.stem, recording.path, recording.caption)
            for recording in list_recordings(path)
        ]
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder.")
    return [FoundClip(path.stem, path, caption_of(path, path.name, CaptionRule()))]


def _made(results: Path) -> Iterator[FoundClip]:
    lines = read_results(results)
    done = [line for line in lines if line.get("outcome") == DONE and line.get("file")]
    packed = [line for line in done if line.get("shard")]
    if packed:
        raise InputError(
            f"The files of {results} lie in tars ({packed[0]['shard']} ...). Unpack them into a "
            "folder and name that."
        )
    if not done:
        raise InputError(f"{results} names no file that was made.")
    if len(done) < len(lines):
        log.warning(
            "%d of %d rows of %s were not made.", len(lines) - len(done), len(lines), results
        )
    for line in done:
        yield FoundClip(
            line["id"],
            results.parent / line["file"],
            str(_cell(line, "prompt") or ""),
            _seconds(line),
        )


def _cell(line: dict[str, Any], name: str) -> Any:
    """What the row says under any name of a value."""
    row = line.get("row")
    cells = row if isinstance(row, dict) else {}
    return next(
        (cell for column, cell in cells.items() if _COLUMNS.value_name(column) == name), None
    )


def _seconds(line: dict[str, Any]) -> float | None:
    cell = _cell(line, "seconds")
    try:
        return None if cell is None else float(_COLUMNS.readers["seconds"](str(cell))[0])
    except SA3Error:
        return None


def check_distinct(clips: list[FoundClip], folder: Path) -> None:
    """Refuse two clips of the same id.

    Raises:
        InputError: names both files.
    """
    seen: dict[str, Path] = {}
    for clip in clips:
        if clip.id in seen:
            raise InputError(
                f"{folder} has two clips called {clip.id}: {seen[clip.id]} and {clip.path}."
            )
        seen[clip.id] = clip.path


def read_prompts(path: Path) -> dict[str, str]:
    """Prompts by id from a CSV with a column `id` and a column `prompt` (or a data set's names).

    Raises:
        InputError: no such file, no CSV, other columns, or an id that comes twice.
    """
    try:
        text = path.read_text("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV ({error}).") from error
    names = list(rows[0]) if rows else []
    identifier = next((name for name in _IDS if name in names), None)
    prompt = next((name for name in _PROMPTS if name in names), None)
    if identifier is None or prompt is None:
        raise InputError(
            f"{path} needs a column {' or '.join(_IDS)} and a column {' or '.join(_PROMPTS)}; it "
            f"has {', '.join(map(str, names)) or 'no rows'}."
        )
    found: dict[str, str] = {}
    for row in rows:
        if row[identifier] in found:
            raise InputError(f"{path} has two rows for {row[identifier]}.")
        found[row[identifier] or ""] = row[prompt] or ""
    return found
