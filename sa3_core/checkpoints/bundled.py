"""The model that this program brings along, and its unpacking into a model folder.

It is stored small: of tensors that are mostly zero only the other values are kept, with a bit per
value that says where they stand. Unpacked it is a model folder in the published layout.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CheckpointError
from ..files.published import CONFIG_FILE, TEXT_ENCODER_FOLDER, WEIGHTS_FILE
from ..files.tensor_file import read_header
from ..files.tensor_writer import write_tensors
from ..files.whole_file import whole_folder, write_failure
from ..networks.config import Objective

BUNDLED: dict[str, Objective] = {"demo": "rf_denoiser", "demo-base": "rectified_flow"}
"""Names of the bundled models: the same weights, declared post-trained and, for training, base."""

MASK, FILE_MARK = "#mask", ":"  # in the keys of the stored file: `file:tensor`, `file:tensor#mask`
_STORED = "demo.safetensors"
_FOLDER = ".bundled"  # hidden, so that what is in it is never taken for the user's own
_HERE = Path(__file__).resolve()
_PLACES = (_HERE.parents[2] / "demo_model", _HERE.parents[1] / "demo_model")  # source, installed


@cache
def stored_file() -> Path | None:
    """The stored model, or None where this copy of the program came without it."""
    return next((place / _STORED for place in _PLACES if (place / _STORED).is_file()), None)


def bundled_names() -> list[str]:
    """Names that `unpacked` knows; none where the stored model is missing."""
    return list(BUNDLED) if stored_file() else []


def unpacked(name: str, root: Path) -> Path:
    """The folder of a bundled model below `root`, written first where it is not there yet.

    The folder appears when it is whole, and one of another version of the program is replaced.

    Args:
        name: key of BUNDLED.
        root: folder of models.

    Raises:
        CheckpointError: the stored model is missing or damaged, or nothing can be written.
    """
    source = stored_file()
    if source is None:
        raise CheckpointError(
            f"{name!r} comes with the program as demo_model/{_STORED}, which is not there. Install "
            "the pack again, or take another model."
        )
    home = root / _FOLDER
    folder = home / _version(str(source)) / name
    if not (folder / WEIGHTS_FILE).is_file():
        texts, tensors = _read(source)
        texts[CONFIG_FILE]["model"]["diffusion"]["diffusion_objective"] = BUNDLED[name]
        try:
            with whole_folder(folder) as part:
                _write(texts, tensors, part)
            _sweep(home, keep=folder.parent)
        except OSError as error:
            raise CheckpointError(write_failure(folder / WEIGHTS_FILE, error)) from error
    return folder


def bundled_loras() -> Path | None:
    """The folder of LoRAs for the bundled model, or None where they are not there."""
    source = stored_file()
    folder = None if source is None else source.parent / "loras"
    return folder if folder is not None and folder.is_dir() else None


@cache
def _version(source: str) -> str:
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12]


def _sweep(home: Path, keep: Path) -> None:
    """Remove what other versions of the program unpacked; what is in use stays where it must."""
    for other in home.iterdir():
        if other != keep and any((other / name).is_dir() for name in BUNDLED):
            shutil.rmtree(other, ignore_errors=True)


def _write(texts: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write the files of a model."""
    (folder / TEXT_ENCODER_FOLDER).mkdir()
    for name, content in texts.items():
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    files: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        file, _, tensor = key.partition(FILE_MARK)
        files.setdefault(file, {})[tensor] = value
    for name, part in files.items():
        with (folder / name).open("xb") as file:
            write_tensors(file, part, {"format": "pt"})


def _read(source: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The contents of the JSON files by name, and every tensor in its shape."""
    try:
        metadata = read_header(source)["__metadata__"]
        stored, shapes = load_file(source), json.loads(metadata["shapes"])
        tensors = {name: _dense(stored, name, shape) for name, shape in shapes.items()}
        return json.loads(metadata["files"]), tensors
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{source.name} is damaged ({error}). Install the pack again."
        ) from error


def _dense(stored: dict[str, Tensor], name: str, shape: list[int]) -> Tensor:
    values = stored[name]
    if name + MASK not in stored:
        return values.reshape(shape)
    whole = torch.zeros(shape, dtype=values.dtype)
    bits = np.unpackbits(stored[name + MASK].numpy(), count=whole.numel())
    whole.view(-1)[torch.from_numpy(bits.astype(bool))] = values
    return whole
