"""Writing safetensors files a tensor at a time: what is saved need not be in memory twice."""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .published import HEADER_DTYPES

_HEADER_NAMES = {dtype: name for name, dtype in HEADER_DTYPES.items()}


@dataclass(frozen=True)
class Entry:
    """A tensor's line in the header.

    Attributes:
        name: of the tensor.
        dtype: as the format names it.
        shape: its sizes.
        size: bytes.
    """

    name: str
    dtype: str
    shape: Sequence[int]
    size: int


def write_header(file: BinaryIO, entries: Sequence[Entry], metadata: Mapping[str, str]) -> None:
    """Write the format's start: length, then JSON padded to a multiple of 8.

    Args:
        file: at its beginning.
        entries: in the order that the tensors follow in, wider types first.
        metadata: texts.
    """
    table: dict[str, Any] = {"__metadata__": dict(metadata)}
    place = 0
    for entry in entries:
        offsets = [place, place + entry.size]
        table[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": offsets,
        }
        place += entry.size
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)


def write_tensors(
    file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a whole file of float tensors, by name.

    Args:
        file: at its beginning.
        tensors: float32, bfloat16 or float16, on any device.
        metadata: texts.
    """
    ordered = sorted(tensors.items(), key=lambda pair: (-pair[1].element_size(), pair[0]))
    entries = [
        Entry(name, _HEADER_NAMES[value.dtype], value.shape, value.numel() * value.element_size())
        for name, value in ordered
    ]
    write_header(file, entries, metadata)
    for _, value in ordered:
        write_values(file, value)


def write_values(file: BinaryIO, value: Tensor) -> None:
    """Write a tensor's bytes."""
    plain = value.detach().cpu().contiguous()
    file.write(plain.reshape(-1).view(torch.uint8).numpy().data)
