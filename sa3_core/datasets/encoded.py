"""Encoded clips on disk: `<name>.npy`, `<name>.json` and one `silence.npy` per folder.

The reference's format, read and written; more keys in the JSON are ours and ignored there. Folders
of Underfit are read too, whose clips lie in folders as the recordings do and may have tags instead
of a prompt; it takes ours as they are.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..checks import shown
from ..errors import LatentFileError
from ..files.array_file import read_floats
from ..files.json_text import parse_json
from ..files.whole_file import whole_file, write_failure
from ..geometry import LATENT_CHANNELS
from .folder import tags_caption

SILENCE = "silence.npy"
_LONGEST = 100_000.0  # seconds of a clip


@dataclass(frozen=True, eq=False)
class EncodedClip:
    """One clip.

    Attributes:
        name: of its files, without suffix; below folders with them, behind slashes.
        latents: [256, T] float32.
        valid: frames of the clip itself; the rest is padding.
        seconds: its duration as the model is told it.
        prompt: its caption.
        autoencoder: `same-s`, `same-l`; None where the file does not tell.
    """

    name: str
    latents: Tensor
    valid: int
    seconds: float
    prompt: str
    autoencoder: str | None = None


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file that appears only when it is whole.

    Raises:
        LatentFileError: it cannot be written.
    """
    with _written(path) as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def write_notes(path: Path, notes: Mapping[str, Any]) -> None:
    """Write a .json file that appears only when it is whole.

    Raises:
        LatentFileError: it cannot be written.
    """
    with _written(path) as file:
        file.write(json.dumps(notes, ensure_ascii=False).encode(errors="backslashreplace"))


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    try:
        with whole_file(path) as whole:
            yield whole.file
    except OSError as error:
        raise LatentFileError(write_failure(path, error)) from error


def read_notes(path: Path) -> dict[str, Any]:
    """A clip's JSON.

    Raises:
        LatentFileError: it is missing or no JSON object.
    """
    try:
        notes = parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise LatentFileError(f"{path} is missing. Encode that clip again.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LatentFileError(f"{path} is not readable JSON ({error}).") from error
    if not isinstance(notes, dict):
        raise LatentFileError(f"{path} holds no JSON object. Encode that clip again.")
    return notes


def read_folder(folder: Path, autoencoder: str | None = None) -> list[EncodedClip]:
    """Every clip of a folder, below it too, sorted by path; each one checked.

    Args:
        folder: of encoded clips.
        autoencoder: the one of the model that is trained; clips of another are refused.

    Raises:
        LatentFileError: no clip, or one that is damaged, incomplete or of another autoencoder.
    """
    paths = [path for path in folder.rglob("*.npy") if path.name != SILENCE]
    if not paths:
        raise LatentFileError(f"{folder} holds no encoded clips (.npy with .json). Encode first.")
    paths.sort(key=lambda path: path.as_posix())
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    clips = [replace(read_clip(path), name=name) for path, name in zip(paths, names, strict=True)]
    kinds = {clip.autoencoder for clip in clips if clip.autoencoder}
    wanted = {autoencoder} if autoencoder else kinds
    if len(kinds | wanted) > 1:
        raise LatentFileError(
            f"{folder} holds clips of {' and '.join(sorted(kinds))}"
            + (f"; the model needs {autoencoder}" if autoencoder else "")
            + ". Latents of one autoencoder mean nothing to another: encode all with one."
        )
    return clips


def read_clip(path: Path) -> EncodedClip:
    """One clip, checked.

    Args:
        path: its .npy file.

    Raises:
        LatentFileError: saying what is wrong with which file.
    """
    latents = _read_latents(path)
    notes_path = path.with_suffix(".json")
    notes = read_notes(notes_path)
    if not notes.get("prompt"):  # Underfit makes its prompts of tags while it trains
        notes |= {"prompt": said} if (said := tags_caption(notes)) else {}
    missing = [key for key in ("prompt", "seconds_total", "padding_mask") if key not in notes]
    if missing:
        raise LatentFileError(f"{notes_path} lacks {', '.join(missing)}. Encode that clip again.")
    prompt, seconds, mask = notes["prompt"], notes["seconds_total"], notes["padding_mask"]
    if not _is_text(prompt):
        raise LatentFileError(f"{notes_path}: prompt is {shown(prompt)}; it must be text.")
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 < seconds <= _LONGEST:
        raise LatentFileError(
            f"{notes_path}: seconds_total is {shown(seconds)}; it must be above 0 and at most "
            f"{_LONGEST:g}."
        )
    kind = notes.get("autoencoder")
    valid = _valid_frames(notes_path, mask, latents.shape[1])
    return EncodedClip(
        path.stem, latents, valid, float(seconds), prompt, kind if isinstance(kind, str) else None
    )


def _is_text(value: object) -> bool:
    """Whether it is text without halves of characters."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def read_silence(folder: Path) -> Tensor | None:
    """Encoded silence [256, T] of a folder, or None where it has none."""
    path = folder / SILENCE
    if not path.is_file():
        return None
    return _read_latents(path)


def _read_latents(path: Path) -> Tensor:
    try:
        array = read_floats(path)
    except OSError as error:
        raise LatentFileError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise LatentFileError(
            f"{path} is no readable array: it {error} Or encode it again."
        ) from error
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or array.shape[0] != LATENT_CHANNELS or not array.shape[1]:
        raise LatentFileError(
            f"{path} has the shape {list(array.shape)}; a clip is [{LATENT_CHANNELS}, frames]."
        )
    if not np.isfinite(array).all():
        raise LatentFileError(f"{path} holds values that are not finite numbers. Encode it again.")
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _valid_frames(path: Path, mask: Any, frames: int) -> int:
    """Number of leading ones of a padding mask, which must be as long as the latents."""
    bits = mask if isinstance(mask, list) else []
    ones = sum(bit == 1 for bit in bits)
    if len(bits) != frames or not ones or bits != [1] * ones + [0] * (frames - ones):
        raise LatentFileError(
            f"{path}: padding_mask must be {frames} numbers, one per frame: ones, at least one, "
            "then zeros. Encode that clip again."
        )
    return ones
