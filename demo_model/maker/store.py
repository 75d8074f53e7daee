"""The stored form of the demo model: one file, without the many zeros of its autoencoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sa3_core.checkpoints.bundled import FILE_MARK, MASK

_DENSE = 0.8  # share of values other than zero from which a mask does not pay


def store(folder: Path, path: Path) -> Path:
    """Write a model folder as one file that the program unpacks.

    Args:
        folder: in the published layout, half precision.
        path: the stored file, replaced.
    """
    texts = {
        file.relative_to(folder).as_posix(): json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(folder.rglob("*.json"))
    }
    tensors: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for file in sorted(folder.rglob("*.safetensors")):
        for key, value in load_file(file).items():
            name = file.relative_to(folder).as_posix() + FILE_MARK + key
            shapes[name] = list(value.shape)
            tensors |= _packed(name, value)
    metadata = {"format": "pt", "files": json.dumps(texts), "shapes": json.dumps(shapes)}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata=metadata)
    part.replace(path)
    return path


def _packed(name: str, value: Tensor) -> dict[str, Tensor]:
    flat = value.reshape(-1)
    there = flat != 0
    if float(there.float().mean()) > _DENSE:
        return {name: value}
    bits = np.packbits(there.numpy())
    return {name: flat[there], name + MASK: torch.from_numpy(bits)}
