"""Marks of files by what they hold, so that a job notices another file under the same name."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PART = 1 << 20  # bytes read at once
_PARTS = 64  # of a file too large to be read whole


def content_mark(path: Path, whole: bool = True) -> str:
    """16 hex digits of a file's size and content; they stay when it is copied or moved.

    Args:
        path: the file.
        whole: read all of it; else of a larger one 64 MiB, spread evenly: enough for weights, of
            which another training changes every value.

    Returns:
        Empty where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            digest = hashlib.sha256(str(size).encode())
            for part in _all(file) if whole or size <= _PARTS * _PART else _spread(file, size):
                digest.update(part)
    except OSError:
        return ""
    return digest.hexdigest()[:16]


def _all(file: BinaryIO) -> Iterator[bytes]:
    while part := file.read(_PART):
        yield part


def _spread(file: BinaryIO, size: int) -> Iterator[bytes]:
    for number in range(_PARTS):
        file.seek(number * (size - _PART) // (_PARTS - 1))
        yield file.read(_PART)
