"""What a run writes down: CSV files always, TensorBoard where it is installed."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.whole_file import whole_file, write_failure
from .trainer import StepReport
from .validation import LEVELS, Validation

LOG, VALIDATION, CHANGES = "log.csv", "validation.csv", "changes.csv"
BOARD = "tensorboard"
_COLUMNS = ("step", "loss", "made", "given", "rate", "norm", "seconds", "t", "items")


class Logs:
    """The logs of a run's folder; lines of steps that were not saved are dropped at the start."""

    def __init__(self, folder: Path, step: int) -> None:
        """Go on after `step`; 0 = anew.

        Raises:
            InputError: a log cannot be written.
        """
        self._folder = folder
        for name in (LOG, VALIDATION, CHANGES):
            _cut(folder / name, step)
        self._board = _open_board(folder / BOARD, step)

    def step(self, report: StepReport, seconds: float) -> None:
        """Write down a step."""
        values = (report.loss, report.made, report.given, report.rate, report.norm)
        row = [
            str(report.step),
            *(f"{value:.6g}" for value in values),
            f"{seconds:.3f}",
            " ".join(f"{level:.4f}" for level in report.levels),
            " ".join(f"{loss:.6g}" for loss in report.items),
        ]
        _add(self._folder / LOG, _COLUMNS, row)
        names = ("loss", "made", "given", "rate", "norm")
        self._show(dict(zip(names, values, strict=True)), "train", report.step)

    def validation(self, found: Validation) -> None:
        """Write down a validation."""
        step = str(found.step)
        if found.losses:
            columns = ("step", "loss", *(f"t={level}" for level in LEVELS))
            values = (found.loss or 0.0, *found.losses)
            _add(self._folder / VALIDATION, columns, [step, *(f"{v:.6g}" for v in values)])
            shown = dict(zip(columns[1:], values, strict=True))
            self._show(shown, "validation", found.step)
        columns = ("step", *found.changes)
        _add(self._folder / CHANGES, columns, [step, *(f"{v:.4g}" for v in found.changes.values())])
        self._show(found.changes, "change", found.step)

    def history(self) -> list[tuple[int, float]]:
        """Steps and losses of all validations."""
        rows = read_rows(self._folder / VALIDATION, ("step", "loss"))
        return [(int(row["step"][0]), row["loss"][0]) for row in rows]

    def close(self) -> None:
        """Nothing is written any more."""
        if self._board is not None:
            self._board.close()

    def _show(self, values: Mapping[str, float], group: str, step: int) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, step)


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, list[float]]]:
    """Numbers of a CSV file's lines by the names of its columns.

    Args:
        path: none where it is missing.
        columns: wanted; a line that lacks one, or holds something else there, is left out: people
            open logs in other programs.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        lines = list(csv.DictReader(line.replace("\0", "") for line in file))
    found = (_numbers(line, columns) for line in lines)
    return [row for row in found if row is not None]


def losses_of(folder: Path) -> list[float]:
    """Loss of every step that a run's folder knows, in order."""
    return [row["loss"][0] for row in read_rows(folder / LOG, ("step", "loss"))]


def _numbers(line: Mapping[str, str], columns: Sequence[str]) -> dict[str, list[float]] | None:
    try:
        row = {name: [float(part) for part in line[name].split()] for name in columns}
    except (KeyError, ValueError, AttributeError):
        return None
    sound = all(values and all(map(math.isfinite, values)) for values in row.values())
    return row if sound else None


def _open_board(folder: Path, step: int) -> Any:
    """TensorBoard's writer, or None where it is not installed."""
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


def _add(path: Path, columns: Sequence[str], row: Sequence[str]) -> None:
    """Add a line, and the names of the columns to a new file."""
    try:
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, row] if new else [row])
    except OSError as error:
        raise InputError(write_failure(path, error)) from error


def _cut(path: Path, step: int) -> None:
    """Drop the lines of later steps, and a last one that was cut off by a kill."""
    if not path.exists():
        return
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        numbers = [line.partition(",")[0] for line in lines]
        kept = [
            line
            for line, number in zip(lines, numbers, strict=True)
            if not number.isdigit() or int(number) <= step
        ]
        with whole_file(path) as whole:
            whole.file.write("".join(kept).encode())
    except OSError as error:
        raise InputError(write_failure(path, error)) from error
