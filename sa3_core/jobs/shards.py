"""Finished rows packed into tars as webdataset reads them: `key.flac` and `key.json` a row."""

import io
import json
import logging
import re
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..files.whole_file import FreeName, whole_file, write_failure
from .outcome import Results
from .row import Row, digest_of

log = logging.getLogger(__name__)

ROWS_PER_SHARD = 1000
_NAME = "shard"
_SHARD = re.compile(rf"{_NAME}_\d{{5,}}\.tar")
_KEY_DIGITS = 16


class Shards:
    """Packs the files of a folder; each lies there singly until its shard is whole."""

    def __init__(self, folder: Path, results: Results, most: int = ROWS_PER_SHARD) -> None:
        """Take over what an earlier run packed without having said so.

        Args:
            folder: of the results.
            results: whose lines tell where each row lies.
            most: rows of a shard.
        """
        self._folder, self._results, self._most = folder, results, most
        self._next = most
        self.waiting: list[Row] = []

    def adopt(self, rows: Mapping[str, Row]) -> None:
        """Say of rows that lie in a shard already that they do (the packer was killed before)."""
        loose = {key: row for key, row in rows.items() if not self._results.line(row).get("shard")}
        packed = [path for path in self._folder.iterdir() if _SHARD.fullmatch(path.name)]
        for path in sorted(packed) if loose else ():
            for line in _lines_in(path):
                row = loose.get(line.get("id", ""))
                if row is not None and self._results.line(row) == line:
                    self._moved(row, path.name)

    def add(self, row: Row) -> None:
        """A row whose file is there."""
        if not self._results.line(row).get("shard"):
            self.waiting.append(row)
        if len(self.waiting) >= self._next:
            self.flush()

    def flush(self) -> None:
        """Pack what waits; where that cannot be written, it goes on waiting and that is said."""
        while rows := self.waiting[: self._most]:
            try:
                path = self._write(rows)
            except OSError as error:
                self._next = len(self.waiting) + self._most
                place = FreeName(self._folder, _NAME, ".tar")
                log.warning("%s Its rows lie singly.", write_failure(place, error))
                return
            for row in rows:
                self._moved(row, path.name)
            del self.waiting[: len(rows)]
        self._next = self._most

    def _write(self, rows: Sequence[Row]) -> Path:
        with (
            whole_file(FreeName(self._folder, _NAME, ".tar")) as whole,
            tarfile.open(fileobj=whole.file, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for row in rows:
                self._pack(tar, row)
        return whole.path

    def _pack(self, tar: tarfile.TarFile, row: Row) -> None:
        line = self._results.line(row)
        path = self._folder / line["file"]
        told = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace")
        for suffix, content in ((path.suffix, path.read_bytes()), (".json", told)):
            member = tarfile.TarInfo(_key(row) + suffix)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

    def _moved(self, row: Row, shard: str) -> None:
        self._results.moved(row, shard)
        with suppress(OSError):  # in use elsewhere: it is a copy by now
            (self._folder / self._results.line(row)["file"]).unlink(missing_ok=True)


def _key(row: Row) -> str:
    """The row's id, where webdataset would not take a part of it for a suffix."""
    return row.id if "." not in row.id else digest_of(row.id)[:_KEY_DIGITS]


def _lines_in(path: Path) -> list[dict[str, Any]]:
    with tarfile.open(path) as tar:
        files = [tar.extractfile(member) for member in tar if member.name.endswith(".json")]
        return [json.loads(file.read()) for file in files if file is not None]
