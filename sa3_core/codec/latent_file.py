"""Latents on disk: a safetensors file for a batch, or upstream's `.npy` for one piece.

safetensors: `latents` float32 [B, 256, T] and `seconds` float64 [B]. npy: one array [256, T],
which carries no duration. B batch, T latent frames.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from ..checks import shown, unsound_items
from ..errors import CheckpointError, InputError, LatentFileError
from ..files.array_file import read_floats
from ..files.names import is_file
from ..files.published import DTYPES
from ..files.tensor_file import open_tensors
from ..files.whole_file import Place, name_of, whole_file, write_failure
from ..geometry import LATENT_CHANNELS, effective_frames, seconds_of_frames

LATENTS_KEY, SECONDS_KEY = "latents", "seconds"
SUFFIXES = (".safetensors", ".npy")
_FLOATS = (*DTYPES.values(), torch.float64)


@dataclass(frozen=True, eq=False)
class Latents:
    """Latents with the durations they stand for.

    Attributes:
        frames: [B, 256, T] float32 on the CPU.
        seconds: one duration per item, which results are trimmed to.
    """

    frames: Tensor
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        shape = tuple(self.frames.shape)
        if len(shape) != 3 or shape[1] != LATENT_CHANNELS or 0 in shape:
            raise InputError(
                f"The latents have shape {list(shape)}; Stable Audio 3's are [batch, "
                f"{LATENT_CHANNELS}, frames]."
            )
        if len(self.seconds) != shape[0]:
            raise InputError(
                f"There are {len(self.seconds)} durations for {shape[0]} latents; give one each."
            )
        for seconds in self.seconds:
            known = math.isfinite(seconds) and seconds > 0
            if not known or effective_frames(seconds) > shape[2]:
                raise InputError(
                    f"A duration is {seconds:g} s; the latents have {shape[2]} frames, so it must "
                    f"be more than 0 and at most {seconds_of_frames(shape[2]):.3f} s."
                )


def read_latents(path: Path) -> Latents:
    """Read a latent file; half and double precision are accepted and made float32.

    Args:
        path: `.safetensors` (without `seconds` the frames count in full) or `.npy` [256, T].

    Raises:
        LatentFileError: no such file, damaged, pickled, or not latents of Stable Audio 3.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise LatentFileError(_wrong_suffix(path))
    if not is_file(path):
        raise LatentFileError(f"{path}: no such file. Check the path.")
    npy = path.suffix.lower() == ".npy"
    frames, seconds = _read_npy(path) if npy else _read_safetensors(path)
    if frames.dtype not in _FLOATS:
        raise LatentFileError(f"{path.name}: the latents are {frames.dtype}; they must be floats.")
    frames = frames.float()
    if not bool(torch.isfinite(frames).all()):
        raise LatentFileError(f"{path.name}: the latents hold NaN or infinite values.")
    if seconds is None and frames.ndim == 3:
        seconds = (seconds_of_frames(frames.shape[2]),) * frames.shape[0]
    try:
        return Latents(frames, seconds or ())
    except InputError as error:
        raise LatentFileError(f"{path.name}: {error}") from error


def write_latents(place: Place, latents: Latents) -> Path:
    """Write a latent file, whole or not at all.

    Args:
        place: `.safetensors`, or `.npy` for a single item; an existing file is replaced,
            other names are claimed.

    Returns:
        The file written.

    Raises:
        LatentFileError: values that are not finite, another suffix, several items for `.npy`, no
            folder, disk full.
    """
    path = name_of(place)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise LatentFileError(_wrong_suffix(path))
    frames = latents.frames.detach().float().cpu().contiguous()
    bad = unsound_items(frames)
    if bad:
        raise LatentFileError(
            f"{path.name} is not written: item {bad[0]} of the {len(frames)} latents holds NaN or "
            "infinite values. Check the step that made it."
        )
    if suffix == ".npy":
        if frames.shape[0] != 1:
            raise LatentFileError(
                f"{path.name}: a .npy file holds one piece, there are {frames.shape[0]}. Write a "
                ".safetensors file."
            )
        return _write(place, lambda file: np.save(file, frames[0].numpy(), allow_pickle=False))
    seconds = torch.tensor(latents.seconds, dtype=torch.float64)
    data = save({LATENTS_KEY: frames, SECONDS_KEY: seconds})
    return _write(place, lambda file: file.write(data))


def _write(place: Place, fill: Callable[[BinaryIO], object]) -> Path:
    try:
        with whole_file(place) as whole:
            fill(whole.file)
    except OSError as error:
        raise LatentFileError(write_failure(place, error)) from error
    return whole.path


def _wrong_suffix(path: Path) -> str:
    return (
        f"{path.name}: latent files end in {' or '.join(SUFFIXES)}, not in "
        f"{path.suffix or 'no suffix'!r}."
    )


def _read_npy(path: Path) -> tuple[Tensor, None]:
    try:
        array = read_floats(path)
    except OSError as error:
        raise LatentFileError(f"{path.name} cannot be read: {error}") from error
    except ValueError as error:
        raise LatentFileError(f"{path.name} {error}") from error
    if array.ndim != 2:
        raise LatentFileError(
            f"{path.name}: the array has shape {list(array.shape)}; it must be "
            f"[{LATENT_CHANNELS}, frames]."
        )
    # ascontiguousarray also brings other byte orders and memory layouts to what torch takes.
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None], None


def _read_safetensors(path: Path) -> tuple[Tensor, tuple[float, ...] | None]:
    try:
        with open_tensors(path) as file:
            if LATENTS_KEY not in file.header:
                held = shown(", ".join(sorted(file.header)[:3]) or "nothing")
                raise LatentFileError(
                    f"{path.name} holds no {LATENTS_KEY!r} (it holds {held}); it is no latent "
                    "file of Stable Audio 3."
                )
            frames = file.get(LATENTS_KEY)
            seconds = file.get(SECONDS_KEY) if SECONDS_KEY in file.header else None
    except CheckpointError as error:
        raise LatentFileError(
            f"{path.name}: damaged or truncated safetensors file ({error})"
        ) from error
    if seconds is None:
        return frames, None
    if seconds.ndim != 1 or not seconds.is_floating_point():
        raise LatentFileError(
            f"{path.name}: {SECONDS_KEY!r} is {seconds.dtype} {list(seconds.shape)}; it must be "
            "one float64 per item."
        )
    return frames, tuple(seconds.double().tolist())
