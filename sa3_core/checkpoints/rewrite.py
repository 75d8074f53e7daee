"""Writing a checkpoint anew with some weights changed: the source's layout, a tensor at a time."""

import math
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..checks import check_one_of
from ..errors import CheckpointError, InputError
from ..files.published import CONFIG_FILE, HEADER_DTYPES, TEXT_ENCODER_FOLDER, WEIGHTS_FILE
from ..files.quantised_file import beside_names, description, refuse_rewriting
from ..files.tensor_file import open_tensors, read_header
from ..files.tensor_writer import Entry, write_header, write_values
from ..files.whole_file import Place, name_of, whole_file, whole_folder, write_failure
from ..networks.quantised import quantise

_HEADER_NAMES = {dtype: name for name, dtype in HEADER_DTYPES.items()}
_COPY_BYTES = 16 << 20

# Storage by the core's names: the type in a file's header, and ComfyUI's name of the format.
STORED: Mapping[str, tuple[str, str]] = {
    "fp8_e4m3": ("F8_E4M3", "float8_e4m3fn"),
    "int8": ("I8", "int8_tensorwise"),
}

OnTensor = Callable[[int, int], None]
Changes = Mapping[str, Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class Narrow:
    """Weights that are written in 8 bits.

    Attributes:
        storage: a name of STORED.
        names: of them, in the source's file.
    """

    storage: str
    names: frozenset[str]

    def __post_init__(self) -> None:
        check_one_of("storage", self.storage, tuple(STORED))


@dataclass(frozen=True)
class _Entry:
    """A tensor to write: its name, its place in the source and its type in both.

    Attributes:
        narrowed: the weight of the source that it is the 8-bit values, the scale or the
            description of.
        storage: a name of STORED, where there is such a weight.
    """

    name: str
    shape: list[int]
    source_span: tuple[int, int]
    source_dtype: str
    dtype: str
    size: int
    narrowed: str = ""
    storage: str = ""


class Rewrite:
    """A checkpoint that is to be written like another.

    Attributes:
        metadata: of the source's header.
    """

    def __init__(
        self,
        source: Path,
        out: Place,
        dtype: torch.dtype | None = None,
        copy_text_encoder: bool = False,
        narrow: Narrow | None = None,
    ) -> None:
        """Check the place; nothing is written yet.

        Args:
            source: the .safetensors file.
            out: a .safetensors file, or a folder that gets model.safetensors and
                model_config.json. An existing file is replaced once the new one is complete,
                other names are claimed.
            dtype: float32, bfloat16 or float16 for all floating tensors but the rotary
                frequencies; None keeps each tensor's own.
            copy_text_encoder: also copy the T5Gemma folder; only where `out` is a folder.
            narrow: weights to write in 8 bits, in ComfyUI's layout.

        Raises:
            CheckpointError: the source cannot be read, or holds weights in 8 bits.
            InputError: `out` is the source, or has no folder for the text encoder.
        """
        check_written_dtype(dtype)
        self._place = out
        if isinstance(out, Path) and out.suffix != ".safetensors":
            self._place = out / WEIGHTS_FILE
        self._source, target = source, name_of(self._place)
        self._extras = _extras(source, target, copy_text_encoder)
        if isinstance(out, Path) and target.exists() and target.samefile(source):
            raise InputError(f"{target} is the model that is read from. Choose another name.")
        header = read_header(source)
        self.metadata: dict[str, str] = dict(header.pop("__metadata__", {}))
        refuse_rewriting(header, self.metadata, source)
        self._entries = _entries(header, dtype, narrow)

    def write(
        self, changes: Changes, metadata: Mapping[str, str], on_tensor: OnTensor | None = None
    ) -> Path:
        """Write it; what is not changed is copied bit for bit.

        Args:
            changes: name in the file -> makes of the stored weight in float32 the new one.
            metadata: of the new header.
            on_tensor: called as (done, total) after each tensor; may raise to stop.

        Returns:
            The file written.

        Raises:
            CheckpointError: it cannot be written, or new values do not fit their type.
        """
        place, target = self._place, name_of(self._place)
        try:
            with open_tensors(self._source) as tensors:
                target.parent.mkdir(parents=True, exist_ok=True)
                _check_space(target, sum(entry.size for entry in self._entries))
                with whole_file(place) as whole, self._source.open("rb") as raw:
                    lines = [Entry(e.name, e.dtype, e.shape, e.size) for e in self._entries]
                    write_header(whole.file, lines, metadata)
                    for done, entry in enumerate(self._entries, start=1):
                        _write_tensor(whole.file, raw, entry, changes, tensors.get)
                        if on_tensor is not None:
                            on_tensor(done, len(self._entries))
            for new, there in self._extras.items():
                _copy(there, new)
        except OSError as error:
            raise CheckpointError(write_failure(place, error)) from error
        return whole.path


def check_written_dtype(dtype: torch.dtype | None) -> None:
    """Refuse a type that weights are not written in."""
    if dtype is not None and dtype not in _HEADER_NAMES:
        raise InputError(f"is {dtype}; known: float32, bfloat16, float16.", "dtype")


def _extras(source: Path, target: Path, text_encoder: bool) -> dict[Path, Path]:
    """Files and folders that belong beside model.safetensors: new place -> where it is now."""
    folder_layout = target.name == WEIGHTS_FILE
    found: dict[Path, Path] = {}
    if folder_layout and source.name == WEIGHTS_FILE and (source.parent / CONFIG_FILE).is_file():
        found[target.parent / CONFIG_FILE] = source.parent / CONFIG_FILE
    if not text_encoder:
        return found
    encoder = source.parent / TEXT_ENCODER_FOLDER
    if not folder_layout:
        raise InputError(
            f"The text encoder can only be copied into a folder, and {target.name} is one file. "
            "Name a folder, or leave the text encoder out."
        )
    if not encoder.is_dir():
        raise InputError(f"{source.parent} has no folder {TEXT_ENCODER_FOLDER} to copy.")
    place = target.parent / TEXT_ENCODER_FOLDER
    return found if place.exists() else {**found, place: encoder}


def _copy(source: Path, new: Path) -> None:
    """Copy a file or a folder so that it is whole or not there; a folder is never half there."""
    if source.is_file():
        with whole_file(new) as whole, source.open("rb") as file:
            shutil.copyfileobj(file, whole.file, _COPY_BYTES)
        return
    with whole_folder(new) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)


def _entries(
    header: Mapping[str, Any], dtype: torch.dtype | None, narrow: Narrow | None
) -> list[_Entry]:
    """What to write, wide types first so that every tensor starts on a multiple of its size."""
    bits = {name: torch.finfo(kind).bits for name, kind in HEADER_DTYPES.items()}
    entries = []
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        old = entry["dtype"]
        size, new = last - first, old
        if narrow is not None and name in narrow.names:
            entries += _narrowed(name, entry, narrow.storage)
            continue
        if dtype is not None and old in bits and not name.endswith("inv_freq"):
            new = _HEADER_NAMES[dtype]
            size = size * bits[new] // bits[old]
        entries.append(_Entry(name, entry["shape"], (first, last), old, new, size))
    width = {"F64": 64, "I64": 64, "U64": 64, "I32": 32, "U32": 32, "I16": 16, "U16": 16, **bits}
    # Descriptions have odd lengths and come last.
    return sorted(entries, key=lambda e: (-width.get(e.dtype, 8), e.dtype == "U8", e.source_span))


def _narrowed(name: str, entry: Mapping[str, Any], storage: str) -> list[_Entry]:
    """A weight's 8-bit values, their scale and what says so."""
    kind, format_name = STORED[storage]
    shape, span, old = list(entry["shape"]), tuple(entry["data_offsets"]), entry["dtype"]
    scale, mark = beside_names(name)
    rows = [shape[0], 1] if storage == "int8" else []
    length = len(description(format_name))
    made = ((name, shape, kind, 1), (scale, rows, "F32", 4), (mark, [length], "U8", 1))
    return [
        _Entry(n, sizes, span, old, dtype, width * math.prod(sizes), name, storage)
        for n, sizes, dtype, width in made
    ]


def _check_space(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise CheckpointError(
            f"{target.name} needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free on its "
            "disk. Free some space, save elsewhere or choose a smaller precision."
        )


def _write_tensor(
    file: BinaryIO,
    raw: BinaryIO,
    entry: _Entry,
    changes: Changes,
    read: Callable[[str], Tensor],
) -> None:
    if entry.narrowed:
        write_values(file, _narrow_part(entry, changes, read))
        return
    change = changes.get(entry.name)
    if change is None and entry.dtype == entry.source_dtype:
        _copy_span(raw, file, entry.source_span)
        return
    stored = read(entry.name)
    target = HEADER_DTYPES.get(entry.dtype, stored.dtype)
    weight = stored.float() if change is None else change(stored.float())
    result = weight.to(target)
    if not torch.isfinite(result).all():
        raise CheckpointError(
            f"{entry.name} has values that do not fit {target}. Choose bfloat16 or float32, or "
            "change the weights less (a LoRA's strength, a learning rate)."
        )
    write_values(file, result)


def _narrow_part(entry: _Entry, changes: Changes, read: Callable[[str], Tensor]) -> Tensor:
    """The part of a weight in 8 bits that an entry holds; made of the weight each time."""
    _, mark = beside_names(entry.narrowed)
    if entry.name == mark:
        return torch.tensor(list(description(STORED[entry.storage][1])), dtype=torch.uint8)
    weight = changes.get(entry.narrowed, torch.Tensor.float)(read(entry.narrowed).float())
    if not torch.isfinite(weight).all():
        raise CheckpointError(f"{entry.narrowed} has values that are not finite.")
    values, scale = quantise(weight, entry.storage)
    return values if entry.name == entry.narrowed else scale


def _copy_span(raw: BinaryIO, file: BinaryIO, span: tuple[int, int]) -> None:
    raw.seek(0)
    start = 8 + struct.unpack("<Q", raw.read(8))[0]
    raw.seek(start + span[0])
    left = span[1] - span[0]
    while left:
        block = raw.read(min(left, _COPY_BYTES))
        if not block:
            raise CheckpointError("The source became shorter while it was read. Try again.")
        file.write(block)
        left -= len(block)
