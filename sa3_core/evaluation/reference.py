"""What generated sounds are compared with, kept in a file: statistics and class probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import InputError
from ..measures.distances import Statistics, read_statistics

_IDS, _PROBABILITIES = "ids", "probabilities"


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference that was listened to before.

    Attributes:
        statistics: of the frames of all its sounds; None = not in the file.
        probabilities: of classes [K], by the sound's id.
    """

    statistics: Statistics | None = None
    probabilities: Mapping[str, np.ndarray] = field(default_factory=dict)


def read_reference(path: Path) -> Reference:
    """Published statistics (`.npz` with mu_ref and sigma_ref), or what `write_reference` wrote.

    Raises:
        InputError: no such file, or it holds neither.
    """
    probabilities = _probabilities(path)
    try:
        return Reference(read_statistics(path), probabilities)
    except InputError:
        if not probabilities:
            raise
        return Reference(None, probabilities)


def _probabilities(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if _IDS not in file or _PROBABILITIES not in file:
                return {}
            ids, rows = file[_IDS], np.asarray(file[_PROBABILITIES], np.float64)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a reference ({error}).") from error
    if ids.ndim != 1 or rows.ndim != 2 or len(ids) != len(rows):
        raise InputError(
            f"{path} has {_IDS} of {list(ids.shape)} and {_PROBABILITIES} of {list(rows.shape)}; "
            "there must be a row for every id."
        )
    return dict(zip(map(str, ids), rows, strict=True))


def write_reference(reference: Reference, file: BinaryIO) -> None:
    """Write a reference as `read_reference` takes it, without pickled objects."""
    arrays: dict[str, np.ndarray] = {}
    if reference.statistics is not None:
        arrays["mu_ref"] = reference.statistics.mean
        arrays["sigma_ref"] = reference.statistics.covariance
    if reference.probabilities:
        arrays[_IDS] = np.array(list(reference.probabilities))
        arrays[_PROBABILITIES] = np.stack(list(reference.probabilities.values()))
    np.savez(file, **arrays)  # type: ignore[arg-type]
