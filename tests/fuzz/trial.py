"""Trying changed files: each must end in an error of ours, or in a load that is right."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sa3_core.errors import SA3Error

Attempt = Callable[[random.Random], None]  # raises SA3Error, or SilentError, or what it should not
_DTYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "U8": "u1", "I32": "<i4"}


class SilentError(AssertionError):
    """A changed file was loaded as if nothing had happened."""


@dataclass
class Counts:
    """What became of the mutants of a kind."""

    refused: int = 0
    loaded: int = 0
    raw: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = f"{len(self.raw)} raw, {len(self.silent)} silent"
        return f"{self.refused} refused, {self.loaded} right loads, {faults}"


def try_mutants(attempt: Attempt, name: str, first: int, count: int) -> Counts:
    """Run mutants `first` to `first + count`; each has a random generator of its own number."""
    counts = Counts()
    for number in range(first, first + count):
        try:
            attempt(random.Random(f"{name} {number}"))
            counts.loaded += 1
        except SA3Error as error:
            if not str(error).strip() or len(str(error)) > 3000:
                counts.raw.append(f"{number}: a message of {len(str(error))} characters")
            counts.refused += 1
        except SilentError as fault:
            counts.silent.append(f"{number}: {fault}")
        except Exception as error:
            counts.raw.append(f"{number}: {type(error).__name__}: {error!s:.200}")
    return counts


def must(right: bool, fault: str) -> None:
    """Raise SilentError unless a load is right."""
    if not right:
        raise SilentError(fault[:300])


def plain_tensors(path: Path) -> dict[str, bytes]:
    """Bytes of every tensor, by the format's definition and nothing of ours."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = data[8 + length :]
    return {name: body[slice(*entry["data_offsets"])] for name, entry in header.items()}


def plain_array(path: Path, name: str) -> np.ndarray:
    """One tensor of a safetensors file by the format's definition."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8 : 8 + length])[name]
    raw = data[8 + length :][slice(*entry["data_offsets"])]
    if entry["dtype"] == "BF16":
        wide = np.frombuffer(raw, "<u2").astype("<u4") << 16
        return wide.view("<f4").reshape(entry["shape"])
    return np.frombuffer(raw, _DTYPES[entry["dtype"]]).reshape(entry["shape"])
