"""One row of a manifest: one clip, with the values that it sets for itself."""

import copy
import hashlib
import json
from argparse import Namespace as Values
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .fields import COLUMNS, GENERATE, Columns
from .rules import DEFAULT_SECONDS

_ID_DIGITS = 16


@dataclass(frozen=True)
class Row:
    """A clip to be made.

    Attributes:
        id: its name; the file's, too.
        line: of the manifest, from 1.
        cells: what the manifest says of it, by column; empty cells are left out.
    """

    id: str
    line: int
    cells: Mapping[str, str] = field(default_factory=dict)

    def values(
        self, defaults: Values, folder: Path, columns: Columns = COLUMNS[GENERATE]
    ) -> Values:
        """The row's values on top of those that hold for all rows.

        Args:
            defaults: under the names of the flags of `sa3 generate`.
            folder: of the manifest, which paths of sources are relative to.
            columns: what they set.

        Raises:
            InputError: a cell that cannot be read.
        """
        values = copy.copy(defaults)
        for column, text in self.cells.items():
            name = columns.value_name(column)
            if name is not None:
                setattr(values, name, columns.readers[name](text))
        for name in columns.sources:
            path = getattr(values, name)
            if path is not None:
                setattr(values, name, folder / path)
        if "seed" in columns.readers and not values.seed and not values.seeds:
            values.seed = [seed_of(self.id)]
        return values

    def digest(self, settled: Mapping[str, Any], sources: Sequence[str] = ()) -> str:
        """A hash of all that its sound depends on.

        Args:
            settled: what holds for all rows.
            sources: marks of the files that it reads.
        """
        own = {"id": self.id, "cells": dict(self.cells), "sources": list(sources)}
        return digest_of({**own, "settled": dict(settled)})


def id_of(cells: Mapping[str, str]) -> str:
    """The name of a row that has none: a hash of its cells."""
    return digest_of(dict(cells))[:_ID_DIGITS]


def seed_of(identifier: str) -> int:
    """The seed of a row that names none: 32 bits of a hash of its id."""
    return int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:4], "big")


def digest_of(values: Any) -> str:
    """SHA-256 of values that JSON can hold, others as their text."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def seconds_of(values: Values) -> float:
    """The duration that a row without a source asks for."""
    if values.bars is not None:
        return values.bars * values.beats_per_bar * 60 / values.bpm
    return values.seconds[0] if values.seconds else DEFAULT_SECONDS
