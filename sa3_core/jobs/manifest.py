"""Reading a manifest, CSV or JSONL (Parquet with pyarrow): whole, with every fault at once."""

import csv
import io
import json
import math
import re
from argparse import Namespace as Values
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from ..checks import shown
from ..errors import InputError, SA3Error
from ..files.names import name_fault
from .faults import Fault, ManifestError
from .fields import COLUMNS, DECODE, GENERATE, Columns
from .request import extension_of, settings_of
from .row import Row, id_of
from .rules import usage_rules

ID = "id"
SUFFIXES = (".csv", ".jsonl", ".parquet")
_SEPARATORS = {"lora": "; ", "region": ", "}
_UNSAFE = re.compile(r'[\x00-\x1f<>:"/\\|?*]|^\.|[. ]$')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d|manifest)(\..*)?")


CheckValues = Callable[[Values], Iterable[tuple[str, str]]]  # further faults: (value, sentence)


def read_manifest(
    path: Path,
    defaults: Values,
    check_values: CheckValues = lambda values: (),
    work: str = GENERATE,
) -> list[Row]:
    """All rows, checked before anything is loaded.

    Args:
        path: `.csv` (a header, UTF-8), `.jsonl` (an object per line) or `.parquet`.
        defaults: values of what a row leaves open, under the names of the flags.
        check_values: further faults of a row's values, as (value, sentence).
        work: a name of COLUMNS.

    Raises:
        ManifestError: rows with faults, every one of them.
        InputError: no such file, an unknown suffix, or no row.
    """
    faults: list[Fault] = []
    rows, columns = [], COLUMNS[work]
    for line, cells in _cells_of(path, columns, faults):
        identifier = cells.get(ID) or id_of(cells)
        row = Row(identifier, line, {name: text for name, text in cells.items() if name != ID})
        rows.append(row)
        found = _cell_faults(row, columns)
        if not found:
            values = row.values(defaults, path.parent, columns)
            checks = (_RULES[work](values), _source_faults(values, columns), check_values(values))
            found = _named(row, columns, chain(*checks))
        faults += found
    faults += _id_faults(rows)
    if faults:
        raise ManifestError(path, faults)
    if not rows:
        raise InputError(f"{path} has no rows.")
    return rows


def _cells_of(
    path: Path, columns: Columns, faults: list[Fault]
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells) of every row; faults of the file's form are added to the list."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path.name}: a manifest ends in {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    if suffix == ".parquet":
        yield from _parquet_cells(path, columns)
        return
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ManifestError(path, [Fault(line, "", "is not UTF-8. Save it as UTF-8.")]) from None
    yield from (_csv_cells if suffix == ".csv" else _jsonl_cells)(text, columns, faults)


def _csv_cells(
    text: str, columns: Columns, faults: list[Fault]
) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] = []
    last = 0
    try:
        for cells in reader:
            line, last = last + 1, reader.line_num
            if not cells:
                continue
            if not names:
                names = [name.strip() for name in cells]
                faults += _column_faults(names, columns, line)
                continue
            if len(cells) != len(names):
                told = f"has {len(cells)} cells, the header {len(names)}. Quote text with commas."
                faults.append(Fault(line, "", told))
                continue
            yield line, {name: cell for name, cell in zip(names, cells, strict=True) if cell}
    except csv.Error as error:
        faults.append(Fault(last + 1, "", f"cannot be read as CSV ({error})."))


def _column_faults(names: list[str], columns: Columns, line: int) -> Iterator[Fault]:
    """Two columns for one value."""
    seen: dict[str, str] = {}
    for name in names:
        value = columns.value_name(name) or name
        if value in seen:
            yield Fault(line, name, f"is given twice (see {seen[value]}).")
        seen[value] = name


def _jsonl_cells(
    text: str, columns: Columns, faults: list[Fault]
) -> Iterator[tuple[int, dict[str, str]]]:
    for line, entry in enumerate(text.split("\n"), 1):
        if not entry.strip():
            continue
        try:
            given = json.loads(entry)
        except (ValueError, RecursionError) as error:
            faults.append(Fault(line, "", f"is no JSON ({error})."))
            continue
        if not isinstance(given, dict):
            faults.append(Fault(line, "", f"is {shown(given)}; it must be an object."))
            continue
        faults += _column_faults(list(given), columns, line)
        yield line, _texts(given, columns)


def _parquet_cells(path: Path, columns: Columns) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            f"{path.name}: reading Parquet needs pyarrow. Install the extra with pip install "
            "'.[ray]', or save the manifest as CSV or JSONL."
        ) from None
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name} cannot be read as Parquet ({error}).") from error
    for line, given in enumerate(table.to_pylist(), 1):
        yield line, _texts(given, columns)


def _texts(given: Mapping[str, Any], columns: Columns) -> dict[str, str]:
    """Cells as CSV has them: None is left out, other values are written as text."""
    cells = {}
    for name, value in given.items():
        known = columns.value_name(name) or ""
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, list):
            value = _SEPARATORS.get(known, " ").join(map(str, value))
        if value is not None and (value != "" or known in ("prompt", "negative")):
            cells[name] = value if isinstance(value, str) else json.dumps(value)
    return cells


def _cell_faults(row: Row, columns: Columns) -> list[Fault]:
    """Cells that cannot be read."""
    faults = []
    for column, text in row.cells.items():
        name = columns.value_name(column)
        if name is not None:
            try:
                columns.readers[name](text)
            except SA3Error as error:
                faults.append(Fault(row.line, column, _sentence(error)))
    return faults


def _named(row: Row, columns: Columns, found: Iterable[tuple[str, str]]) -> list[Fault]:
    """Faults of values under the names that the manifest has for them."""
    given = {columns.value_name(column): column for column in row.cells}
    return [
        Fault(row.line, given.get(columns.value_name(name), name), text) for name, text in found
    ]


def _source_faults(values: Values, columns: Columns) -> Iterator[tuple[str, str]]:
    for name in columns.sources:
        path = getattr(values, name)
        if path is not None and not (name_fault(path) is None and path.is_file()):
            yield name, f"{path}: no such file."


def _generate_faults(values: Values) -> Iterator[tuple[str, str]]:
    """What does not go together, or is out of range, in a row that makes a clip."""
    if not values.prompt:
        yield "prompt", "is missing; an empty one is given by --prompt."
    told = [message for wrong, message in usage_rules(values) if wrong]
    yield from (("", message.replace("--", "")) for message in told)
    try:
        settings_of(values)
        if values.extend_audio and not told:
            extension_of(values)
    except SA3Error as error:
        yield getattr(error, "name", None) or "", _sentence(error)


def _decode_faults(values: Values) -> Iterator[tuple[str, str]]:
    """What is out of range in a row that is decoded."""
    if values.latents is None:
        yield "latents", "is missing; it names a latent file."
    if values.item is not None and values.item < 1:
        yield "item", f"is {values.item}; items are counted from 1."
    if values.seconds is not None and not 0 < values.seconds < math.inf:
        yield "seconds", f"is {values.seconds:g}; it must be more than 0."


_RULES: Mapping[str, Callable[[Values], Iterator[tuple[str, str]]]] = {
    GENERATE: _generate_faults,
    DECODE: _decode_faults,
}


def _sentence(error: SA3Error) -> str:
    """The error without the value's name, which the fault has."""
    text, name = str(error), getattr(error, "name", None)
    return text.removeprefix(f"{name} ") if name is not None else text


def _id_faults(rows: Iterable[Row]) -> Iterator[Fault]:
    """Ids that no file can have, or that two rows have (also where case does not count)."""
    seen: dict[str, int] = {}
    for row in rows:
        if _UNSAFE.search(row.id) or _RESERVED.fullmatch(row.id) or name_fault(Path(f"{row.id}._")):
            told = f'is {shown(row.id)}; it names the file: no path, none of <>:"/\\|?*'
            yield Fault(row.line, ID, told)
        key = row.id.casefold()
        if key in seen:
            told = f"is that of line {seen[key]}, too. Give each row an id or a seed of its own."
            yield Fault(row.line, ID, told)
        seen.setdefault(key, row.line)
