"""Reading `.npy` arrays of floats, whose headers are checked before memory is taken."""

import ast
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..checks import shown

_MAGIC = b"\x93NUMPY"
_VERSIONS = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}  # bytes that the header's length takes
_MAX_HEADER = 10_000  # bytes; numpy's own limit
_FLOAT = re.compile("[<>=|]?f[248]")


def read_floats(path: Path) -> np.ndarray:
    """The array of a `.npy` file of half, single or double precision.

    Raises:
        ValueError: it is something else, or its header does not fit its bytes; the rest of a
            sentence that begins with the file's name.
        OSError: it cannot be opened.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        fields = _header(file)
        start = file.tell()
        kind, order, shape = (fields[key] for key in ("descr", "fortran_order", "shape"))
        if not isinstance(kind, str) or not _FLOAT.fullmatch(kind):
            raise ValueError(
                f"holds {_kind_name(kind)}; 'descr' must be floats of 16, 32 or 64 bits. Save the "
                "plain float array again."
            )
        if type(order) is not bool:
            raise ValueError(f"has 'fortran_order' {shown(order)}; it must be True or False.")
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"has 'shape' {shown(shape)}; it must be whole numbers.")
        dtype = np.dtype(kind)
        needed = math.prod(shape) * dtype.itemsize
        if needed != size - start:
            raise ValueError(
                f"is damaged: its 'shape' {shown(shape)} needs {needed} bytes, and {size - start} "
                "are there. Copy or save it again."
            )
    flat = np.fromfile(path, dtype, math.prod(shape), offset=start)
    if len(flat) < math.prod(shape):
        raise ValueError("became shorter while it was read. Try again.")
    return flat.reshape(shape, order="F" if order else "C")


def _kind_name(kind: object) -> str:
    """What an array is of, in numpy's words where it knows them."""
    if isinstance(kind, str) and "O" in kind:
        return "pickled objects, which may run code and are never read"
    name = shown(kind)
    if isinstance(kind, str) and re.fullmatch("[<>=|]?[bhilBHILuicfUSV][0-9]{0,4}", kind):
        with suppress(TypeError):
            name = np.dtype(kind).name
    return f"values of the type {name}"


def _header(file: BinaryIO) -> dict[str, object]:
    start = file.read(len(_MAGIC) + 2)
    width = _VERSIONS.get(start[6:]) if start.startswith(_MAGIC) else None
    if start.startswith(b"PK"):
        raise ValueError("is an archive of arrays (.npz); save the one array as .npy.")
    if width is None:
        raise ValueError("is no readable .npy file (its first bytes are others).")
    length = int.from_bytes(file.read(width), "little")
    text = file.read(min(length, _MAX_HEADER + 1))
    try:
        if length > _MAX_HEADER or len(text) < length:
            raise ValueError("its length is wrong")
        fields = ast.literal_eval(text.decode("utf-8" if start[6] == 3 else "latin-1").strip())
        if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
            raise ValueError("it must hold 'descr', 'fortran_order' and 'shape'")
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"is no readable .npy file (its header is damaged: {shown(str(error))})."
        ) from None
    return fields
