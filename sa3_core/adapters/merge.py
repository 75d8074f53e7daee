"""Writing a checkpoint with LoRAs merged in: the source's layout, a tensor in memory at a time."""

import json
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor

from ..checkpoints.reader import Checkpoint, open_checkpoint
from ..errors import CheckpointError, InputError
from ..files.published import (
    CONFIG_FILE,
    HEADER_DTYPES,
    TEXT_ENCODER_FOLDER,
    WEIGHTS_FILE,
)
from ..files.tensor_file import read_header
from ..files.whole_file import Place, name_of, whole_file, write_failure
from .build import build_adapter, match, require_fit
from .file import AdapterFile
from .rules import AdapterWeight
from .use import AdapterUse

MERGED_NOTE = "sa3_merged_loras"  # metadata entry, a JSON list
_HEADER_NAMES = {dtype: name for name, dtype in HEADER_DTYPES.items()}
_COPY_BYTES = 16 << 20

OnTensor = Callable[[int, int], None]
Changes = dict[str, list[tuple[AdapterWeight, float]]]


@dataclass(frozen=True)
class _Entry:
    """A tensor to write: its name, its place in the source and its type in both."""

    name: str
    shape: list[int]
    source_span: tuple[int, int]
    source_dtype: str
    dtype: str
    size: int


def merge_checkpoint(
    source: Path,
    items: Sequence[AdapterUse[AdapterFile]],
    out: Place,
    dtype: torch.dtype | None = None,
    copy_text_encoder: bool = False,
    on_tensor: OnTensor | None = None,
) -> Path:
    """Write a checkpoint with LoRAs merged into its weights.

    Keys, shapes and (unless `dtype` says otherwise) types equal the source's; what no LoRA changes
    is copied bit for bit. LoRAs are chained in the given order, in float32.

    Args:
        source: model folder or .safetensors file.
        items: LoRAs in order.
        out: a .safetensors file, or a folder that gets model.safetensors and model_config.json. An
            existing file is replaced once the new one is complete, other names claimed.
        dtype: float32, bfloat16 or float16 for all floating tensors but the rotary frequencies;
            None keeps each tensor's own.
        copy_text_encoder: also copy the T5Gemma folder; only where `out` is a folder.
        on_tensor: called as (done, total) after each tensor; may raise to stop.

    Returns:
        The file written.

    Raises:
        AdapterError: a LoRA does not fit.
        CheckpointError: the source cannot be read, or the result not be written.
        InputError: `out` is the source, or has no folder for the text encoder; a LoRA acts only at
            some noise levels.
    """
    if dtype is not None and dtype not in _HEADER_NAMES:
        raise InputError(f"is {dtype}; known: float32, bfloat16, float16.", "dtype")
    checkpoint = open_checkpoint(source, need=("dit",))
    place = out
    if isinstance(out, Path) and out.suffix != ".safetensors":
        place = out / WEIGHTS_FILE
    target = name_of(place)
    extras = _extras(checkpoint.path, target, copy_text_encoder)
    if isinstance(out, Path) and target.exists() and target.samefile(checkpoint.path):
        raise InputError(f"{target} is the model that is merged from. Choose another name.")
    header = read_header(checkpoint.path)
    metadata = dict(header.pop("__metadata__", {}))
    notes = _earlier_notes(metadata) + [_note(item) for item in items]
    metadata[MERGED_NOTE] = json.dumps(notes)
    entries = _entries(header, dtype)
    _check_intervals(items)
    try:
        changes = _changes(checkpoint, items)
        with safe_open(str(checkpoint.path), framework="pt") as tensors:
            target.parent.mkdir(parents=True, exist_ok=True)
            _check_space(target, sum(entry.size for entry in entries))
            with whole_file(place) as whole, checkpoint.path.open("rb") as raw:
                _write_header(whole.file, entries, metadata)
                for done, entry in enumerate(entries, start=1):
                    _write_tensor(whole.file, raw, entry, changes, tensors.get_tensor)
                    if on_tensor is not None:
                        on_tensor(done, len(entries))
        for new, there in extras.items():
            _copy(there, new)
    except OSError as error:
        raise CheckpointError(write_failure(place, error)) from error
    return whole.path


def _earlier_notes(metadata: Mapping[str, str]) -> list[Any]:
    """LoRAs that the source says it was merged with; what cannot be read is kept as text."""
    text = metadata.get(MERGED_NOTE, "[]")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return [text]
    return found if isinstance(found, list) else [found]


def _check_intervals(items: Sequence[AdapterUse[AdapterFile]]) -> None:
    """Refuse LoRAs that no weights can stand for."""
    for item in items:
        if not item.always:
            low, high = item.interval
            raise InputError(
                f"{item.lora.name} acts only at noise levels {low:g}-{high:g}; a merged file has "
                "no intervals. Set the interval to 0-1."
            )


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
    with tempfile.TemporaryDirectory(dir=new.parent, prefix=".copy-") as folder:
        os.rename(shutil.copytree(source, Path(folder) / new.name), new)


def _entries(header: Mapping[str, Any], dtype: torch.dtype | None) -> list[_Entry]:
    """What to write, wide types first so that every tensor starts on a multiple of its size."""
    bits = {name: torch.finfo(kind).bits for name, kind in HEADER_DTYPES.items()}
    entries = []
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        old = entry["dtype"]
        size, new = last - first, old
        if dtype is not None and old in bits and not name.endswith("inv_freq"):
            new = _HEADER_NAMES[dtype]
            size = size * bits[new] // bits[old]
        entries.append(_Entry(name, entry["shape"], (first, last), old, new, size))
    width = {"F64": 64, "I64": 64, "U64": 64, "I32": 32, "U32": 32, "I16": 16, "U16": 16, **bits}
    return sorted(entries, key=lambda e: (-width.get(e.dtype, 8), e.source_span))


def _check_space(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise CheckpointError(
            f"{target.name} needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free on its "
            "disk. Free some space, save elsewhere or choose a smaller precision."
        )


def _changes(checkpoint: Checkpoint, items: Sequence[AdapterUse[AdapterFile]]) -> Changes:
    """Tensor name in the file -> the LoRAs that change it, in order, with their strengths."""
    names, shapes = checkpoint.adaptable_names(), checkpoint.adaptable_shapes()
    originals = checkpoint.originals()
    changes: Changes = {}
    for item in items:
        fitting = require_fit(match(item.lora, shapes), item.partial)
        active = [key for key in fitting if item.strength_for(key) != 0]
        for key, adapter in build_adapter(item.lora, originals, active).items():
            changes.setdefault(names[key], []).append((adapter, item.strength_for(key)))
    return changes


def _note(use: AdapterUse[AdapterFile]) -> dict[str, Any]:
    """What the merged file's metadata says about a LoRA."""
    conditioner = use.strength_conditioner
    return {
        "name": use.lora.name,
        "adapter_type": use.lora.adapter_type,
        "strength": use.strength,
        "conditioner_strength": use.strength if conditioner is None else conditioner,
        "layers": use.layers.text,
    }


def _write_header(file: BinaryIO, entries: Sequence[_Entry], metadata: Mapping[str, str]) -> None:
    """The format's start: length, then JSON padded to a multiple of 8."""
    table: dict[str, Any] = {"__metadata__": dict(metadata)}
    place = 0
    for entry in entries:
        offsets = [place, place + entry.size]
        table[entry.name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": offsets}
        place += entry.size
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)


def _write_tensor(
    file: BinaryIO,
    raw: BinaryIO,
    entry: _Entry,
    changes: Changes,
    read: Callable[[str], Tensor],
) -> None:
    adapters = changes.get(entry.name, [])
    if not adapters and entry.dtype == entry.source_dtype:
        _copy_span(raw, file, entry.source_span)
        return
    stored = read(entry.name)
    target = HEADER_DTYPES.get(entry.dtype, stored.dtype)
    weight = stored.float()
    for adapter, strength in adapters:
        weight = adapter.apply(weight, strength)
    result = weight.to(target).contiguous()
    if not torch.isfinite(result).all():
        raise CheckpointError(
            f"{entry.name} has values that do not fit {target}. Choose bfloat16 or float32, or "
            "lower the LoRA's strength."
        )
    file.write(result.reshape(-1).view(torch.uint8).numpy().data)


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
