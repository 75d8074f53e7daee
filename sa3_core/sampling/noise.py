"""Noise that depends on an item's seed and length alone, never on device or batch.

B batch, C latent channels, T latent frames.
"""

import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import (
    MAX_ITEMS,
    check_count,
    check_entries,
    check_length,
    check_number,
    check_seed,
    check_whole,
    read_seed,
    shortened,
)
from ..errors import InputError
from ..geometry import LATENT_CHANNELS

RANDOM_SEED = -1  # given in place of a seed: draw one
_SEED_SPACE = 2**63  # what a torch generator takes
_PARALLEL = 1e-6  # radians below which two noises count as one direction


@dataclass(frozen=True)
class Seeds:
    """Which noise to draw.

    Attributes:
        seed: one seed (each item's index is added), or one per item.
        towards: a second seed to blend with (or one per item), or None.
        strength: 0 = `seed` alone, 1 = `towards` alone; spherical in between.
    """

    seed: int | Sequence[int]
    towards: int | Sequence[int] | None = None
    strength: float = 0.0

    def __post_init__(self) -> None:
        for given in (self.seed, 0 if self.towards is None else self.towards):
            if isinstance(given, Sequence):
                for seed in given:
                    check_seed(seed)
            else:
                check_seed(given)

    @property
    def count(self) -> int:
        """How many items the seeds are for; 1 = any number."""
        return len(self.seed) if isinstance(self.seed, Sequence) else 1


def parse_seeds(text: str) -> list[int]:
    """Seeds such as `7, 9, 20-23` (a range counts both ends).

    Raises:
        InputError: an entry that is no seed, or a reversed or huge range.
    """
    seeds: list[int] = []
    for entry in re.split(r"[\s,;]+", check_length("seeds", text).strip()):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", entry)
        if match is None:
            raise InputError(f"seeds: {shortened(entry)} is no seed; write e.g. 7, 9, 20-23.")
        first, last = (read_seed(number) for number in (match[1], match[2] or match[1]))
        if not first <= last < first + MAX_ITEMS:
            raise InputError(
                f"seeds: the range {shortened(entry)} must go up and hold at most {MAX_ITEMS} "
                "seeds."
            )
        seeds.extend(range(first, last + 1))
        check_entries("seeds", len(seeds))
    return seeds


def is_random(seed: object) -> bool:
    """Whether a seed is to be drawn."""
    return type(seed) is int and seed == RANDOM_SEED


def draw_seed() -> int:
    """A seed at random, of those that make takes of their own."""
    return secrets.randbelow(2**32)


class ItemNoise:
    """Draws standard noise, one CPU generator per item at the item's own length.

    Attributes:
        frames: own aligned length T_b of each item.
        shape: shape of what a call returns, [B, C, T].
    """

    def __init__(
        self,
        seed: int | Sequence[int],
        batch_index: Sequence[int],
        frames: Sequence[int],
        total: int,
        channels: int = LATENT_CHANNELS,
    ) -> None:
        """Seed the generators.

        Args:
            seed: one seed, to which each item's index is added, or one seed per item, taken
                as it is.
            batch_index: index of each item in the batch it came from (B of them).
            frames: own aligned length T_b of each item, at most `total`.
            total: T, the length of the batch.
            channels: C.

        Raises:
            InputError: what is no seed, counts that differ, a length over T.
        """
        if isinstance(seed, Sequence):
            check_count("seeds", len(seed), len(frames))
            seeds = [check_seed(item) for item in seed]
        else:
            check_count("batch indices", len(batch_index), len(frames))
            first = check_seed(seed)
            seeds = [first + check_whole("batch index", index) for index in batch_index]
        if any(not 0 < length <= total for length in frames):
            raise InputError(f"Noise for items of {list(frames)} frames does not fit {total}.")
        self.frames = tuple(frames)
        self.shape = (len(self.frames), channels, total)
        self._generators = [
            torch.Generator("cpu").manual_seed(value % _SEED_SPACE) for value in seeds
        ]

    def __call__(self) -> Tensor:
        """Draw the next noise: [B, C, T] float32 on the CPU, zeros past an item's own length."""
        out = torch.zeros(self.shape)
        for row, frames, generator in zip(out, self.frames, self._generators, strict=True):
            row[:, :frames] = torch.randn(row.shape[0], frames, generator=generator)
        return out


class SeedBlend:
    """Noise between that of two seeds, to stay near a take one likes.

    Spherical interpolation of each item's whole noise: the way from one seed to the other keeps
    the variance, so the model sees proper noise everywhere. Strength 0 is exactly the first
    seed's noise, 1 exactly the second's.
    """

    def __init__(self, first: ItemNoise, second: ItemNoise, strength: float) -> None:
        """Blend two sources of the same shape.

        Args:
            first: noise of the take to stay near.
            second: noise of the take to go towards.
            strength: 0 to 1.

        Raises:
            InputError: strength out of range, or sources that differ in shape or lengths.
        """
        if first.shape != second.shape or first.frames != second.frames:
            raise InputError("Seeds can only be blended for items of the same lengths.")
        self.first, self.second = first, second
        self.strength = check_number("variation_strength", strength, 0.0, 1.0)

    def __call__(self) -> Tensor:
        """Draw the next noise: [B, C, T] float32 on the CPU. Both sources move on."""
        a, b = self.first(), self.second()
        if self.strength in (0.0, 1.0):
            return b if self.strength else a
        for row, other, frames in zip(a, b, self.first.frames, strict=True):
            row[:, :frames] = slerp(row[:, :frames], other[:, :frames], self.strength)
        return a


def slerp(a: Tensor, b: Tensor, strength: float) -> Tensor:
    """Interpolate on the great circle between two tensors of one shape, taken as flat vectors.

    Args:
        a, b: any shape; neither all zero.
        strength: 0 gives `a`, 1 gives `b`.

    Returns:
        A tensor like `a`. Parallel vectors are interpolated in a straight line.
    """
    u, v = a.double().flatten(), b.double().flatten()
    cosine = torch.dot(u, v) / (u.norm() * v.norm())
    angle = math.acos(min(1.0, max(-1.0, float(cosine))))
    if min(angle, math.pi - angle) < _PARALLEL:
        weight_a, weight_b = 1 - strength, strength
    else:
        weight_a = math.sin((1 - strength) * angle) / math.sin(angle)
        weight_b = math.sin(strength * angle) / math.sin(angle)
    return (weight_a * a.double() + weight_b * b.double()).to(a.dtype)
