"""Writing a checkpoint with LoRAs merged in: the source's layout, a tensor in memory at a time."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.reader import Checkpoint, open_checkpoint
from ..checkpoints.rewrite import Narrow, OnTensor, Rewrite, check_written_dtype
from ..errors import InputError
from ..files.whole_file import Place
from ..networks.quantised import stored_narrow
from .build import build_adapter, match, require_fit
from .changes import WeightChange
from .file import AdapterFile
from .use import AdapterUse

MERGED_NOTE = "sa3_merged_loras"  # metadata entry, a JSON list


class _Chain:
    """LoRAs that change one weight, in order, with their strengths."""

    def __init__(self) -> None:
        self._links: list[tuple[WeightChange, float]] = []

    def add(self, adapter: WeightChange, strength: float) -> None:
        self._links.append((adapter, strength))

    def __call__(self, weight: Tensor) -> Tensor:
        for adapter, strength in self._links:
            weight = adapter.apply(weight, strength)
        return weight


def merge_checkpoint(
    source: Path,
    items: Sequence[AdapterUse[AdapterFile]],
    out: Place,
    dtype: torch.dtype | None = None,
    copy_text_encoder: bool = False,
    on_tensor: OnTensor | None = None,
    storage: str | None = None,
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
        storage: `int8` or `fp8_e4m3`: the matrices of the transformer's blocks are written in 8
            bits, in ComfyUI's layout of quantised files.

    Returns:
        The file written.

    Raises:
        AdapterError: a LoRA does not fit.
        CheckpointError: the source cannot be read, or the result not be written.
        InputError: `out` is the source, or has no folder for the text encoder; a LoRA acts only at
            some noise levels.
    """
    check_written_dtype(dtype)
    checkpoint = open_checkpoint(source, need=("dit",))
    narrow = None
    if storage is not None:
        blocks = (file for key, file in checkpoint.parts["dit"].items() if stored_narrow(key))
        narrow = Narrow(storage, frozenset(blocks))
    rewrite = Rewrite(checkpoint.path, out, dtype, copy_text_encoder, narrow)
    notes = _earlier_notes(rewrite.metadata) + [describe_use(item) for item in items]
    metadata = {**rewrite.metadata, MERGED_NOTE: json.dumps(notes)}
    check_always(items)
    return rewrite.write(_changes(checkpoint, items), metadata, on_tensor)


def _earlier_notes(metadata: Mapping[str, str]) -> list[Any]:
    """LoRAs that the source says it was merged with; what cannot be read is kept as text."""
    text = metadata.get(MERGED_NOTE, "[]")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return [text]
    return found if isinstance(found, list) else [found]


def check_always(items: Sequence[AdapterUse[AdapterFile]]) -> None:
    """Refuse LoRAs that no weights can stand for."""
    for item in items:
        if not item.always:
            low, high = item.interval
            raise InputError(
                f"{item.lora.name} acts only at noise levels {low:g}-{high:g}; a merged file has "
                "no intervals. Set the interval to 0-1."
            )


def _changes(checkpoint: Checkpoint, items: Sequence[AdapterUse[AdapterFile]]) -> dict[str, _Chain]:
    """Tensor name in the file -> the LoRAs that change it, in order, with their strengths."""
    names, shapes = checkpoint.adaptable_names(), checkpoint.adaptable_shapes()
    originals = checkpoint.originals()
    changes: dict[str, _Chain] = {}
    for item in items:
        fitting = require_fit(match(item.lora, shapes), item.partial)
        active = [key for key in fitting if item.strength_for(key) != 0]
        for key, adapter in build_adapter(item.lora, originals, active).items():
            changes.setdefault(names[key], _Chain()).add(adapter, item.strength_for(key))
    return changes


def describe_use(use: AdapterUse[AdapterFile]) -> dict[str, Any]:
    """What the merged file's metadata says about a LoRA."""
    conditioner = use.strength_conditioner
    return {
        "name": use.lora.name,
        "adapter_type": use.lora.adapter_type,
        "strength": use.strength,
        "conditioner_strength": use.strength if conditioner is None else conditioner,
        "layers": use.layers.text,
    }
