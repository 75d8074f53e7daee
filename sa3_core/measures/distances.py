"""Distances between sets of sounds, as the papers' tool stable-audio-metrics defines them.

FD-openl3, KL-passt and CLAP score are these formulas over the embeddings and class probabilities
of the models they are named after. Arrays are float64.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import linalg

from ..errors import InputError

KL_EPSILON = 1e-6
_JITTER = 1e-6  # on both diagonals where the product of covariances is singular
_IMAGINARY = 1e-3  # that rounding may leave on the root's diagonal
_NAMES = ("mu_ref", "sigma_ref"), ("mu", "sigma")


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and covariance of the embedding frames of many sounds.

    Attributes:
        mean: [D].
        covariance: [D, D].
    """

    mean: np.ndarray
    covariance: np.ndarray

    def __post_init__(self) -> None:
        size = self.mean.shape[-1:]
        if self.mean.ndim != 1 or self.covariance.shape != size * 2:
            raise InputError(
                f"Statistics are a mean [D] and a covariance [D, D]; these are "
                f"{list(self.mean.shape)} and {list(self.covariance.shape)}."
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.covariance).all()):
            raise InputError("The statistics hold values that are not finite.")


def statistics(frames: np.ndarray) -> Statistics:
    """Statistics of the frames [N, D] of all sounds together.

    Raises:
        InputError: fewer than two frames.
    """
    sums = FrameSums()
    sums.add(frames)
    return sums.statistics()


def _check_frames(count: int) -> None:
    if count < 2:
        raise InputError(f"Statistics need two frames or more; there are {count}.")


class FrameSums:
    """Statistics of frames that come piece by piece, as `statistics` makes them of all at once.

    Attributes:
        count: frames so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: np.ndarray = np.zeros(0)
        self._products: np.ndarray = np.zeros((0, 0))  # of distances from the mean

    def add(self, frames: np.ndarray) -> None:
        """Count frames [N, D] in.

        Raises:
            InputError: of another size than those before.
        """
        if self.count and frames.shape[1] != len(self._mean):
            raise InputError(f"Frames of {frames.shape[1]} numbers after {len(self._mean)}.")
        values = frames.astype(np.float64)
        if not self.count:
            self._mean = np.zeros(values.shape[1])
            self._products = np.zeros((values.shape[1],) * 2)
        total = self.count + len(values)
        mean = values.mean(axis=0)
        apart, shift = values - mean, mean - self._mean
        share = self.count * len(values) / total
        self._products += apart.T @ apart + share * np.outer(shift, shift)
        self._mean = self._mean + shift * (len(values) / total)
        self.count = total

    def statistics(self) -> Statistics:
        """Of all frames so far.

        Raises:
            InputError: fewer than two.
        """
        _check_frames(self.count)
        return Statistics(self._mean, self._products / (self.count - 1))


def read_statistics(path: Path) -> Statistics:
    """Published reference statistics, `.npz` with mu_ref and sigma_ref (or mu and sigma).

    Raises:
        InputError: no such file, or it holds others.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            for mean, covariance in _NAMES:
                if mean in file and covariance in file:
                    found = np.asarray(file[mean], dtype=np.float64)
                    return Statistics(found, np.asarray(file[covariance], dtype=np.float64))
            held = ", ".join(file.files)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as statistics ({error}).") from error
    raise InputError(f"{path} holds {held or 'nothing'}; statistics hold mu_ref and sigma_ref.")


def frechet_distance(reference: Statistics, generated: Statistics) -> float:
    """Fréchet distance of two Gaussians, 0 where they are the same.

    Raises:
        InputError: embeddings of different sizes, or matrices that are no covariances.
    """
    if reference.mean.shape != generated.mean.shape:
        raise InputError(
            f"The embeddings have {len(reference.mean)} and {len(generated.mean)} numbers: they "
            "come from different extractors."
        )
    first, second = reference.covariance, generated.covariance
    root = np.asarray(linalg.sqrtm(first @ second))
    if not np.isfinite(root).all():
        jitter = np.eye(len(first)) * _JITTER
        root = np.asarray(linalg.sqrtm((first + jitter) @ (second + jitter)))
    if not np.allclose(np.imag(np.diagonal(root)), 0, atol=_IMAGINARY):
        raise InputError(
            "The covariances' product has no real root: one of the two is no covariance matrix."
        )
    apart = reference.mean - generated.mean
    traces = np.trace(first) + np.trace(second) - 2 * np.trace(np.real(root))
    return float(apart @ apart + traces)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def kl_divergence(reference: np.ndarray, generated: np.ndarray) -> float:
    """KL(generated ‖ reference) of class probabilities [..., K], a mean over the leading axes.

    The tool adds KL_EPSILON to the reference alone.

    Raises:
        InputError: different numbers of clips or classes.
    """
    if reference.shape != generated.shape:
        raise InputError(
            f"Probabilities of {list(reference.shape)} and {list(generated.shape)} cannot be "
            "compared; there must be one of each for every clip."
        )
    ours, theirs = generated.astype(np.float64), np.log(reference + KL_EPSILON)
    logs = np.log(ours, out=np.zeros_like(ours), where=ours > 0)  # 0 log 0 = 0
    return float((ours * (logs - theirs)).sum(axis=-1).mean())


def cosine_score(texts: np.ndarray, sounds: np.ndarray) -> float:
    """Mean cosine of text and sound embeddings [N, D], row by row: the CLAP score.

    Raises:
        InputError: different shapes.
    """
    if texts.shape != sounds.shape:
        raise InputError(
            f"{len(texts)} texts and {len(sounds)} sounds, or embeddings of other sizes: there "
            "must be one text for every sound."
        )
    sizes = np.linalg.norm(texts, axis=1) * np.linalg.norm(sounds, axis=1)
    return float(((texts * sounds).sum(axis=1) / np.maximum(sizes, 1e-12)).mean())
