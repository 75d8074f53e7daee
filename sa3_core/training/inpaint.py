"""Inpainting masks that a model is trained with: which frames it is given."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..registry import Registry

MaskRule = Callable[[random.Random, int, int], Tensor]
MASKS: Registry[MaskRule] = Registry("inpainting mask")
_MOST_SEGMENTS = 10


@MASKS.add("full")
def full_mask(numbers: random.Random, valid: int, frames: int) -> Tensor:
    """Nothing is given: [1, frames] zeros."""
    return torch.zeros(1, frames)


@MASKS.add("segments")
def segments_mask(numbers: random.Random, valid: int, frames: int) -> Tensor:
    """All of the `valid` frames but some short segments, which may overlap: [1, frames]."""
    mask = torch.ones(1, frames)
    count = numbers.randint(1, _MOST_SEGMENTS)
    longest = max(1, valid // count)
    for _ in range(count):
        length = numbers.randint(1, longest)
        start = numbers.randint(0, valid - length)
        mask[:, start : start + length] = 0
    mask[:, valid:] = 0
    return mask


@MASKS.add("causal")
def causal_mask(numbers: random.Random, valid: int, frames: int) -> Tensor:
    """The beginning of the `valid` frames: [1, frames]."""
    mask = torch.zeros(1, frames)
    mask[:, : numbers.randint(0, valid)] = 1
    return mask


@dataclass(frozen=True)
class InpaintOdds:
    """Probabilities of the kinds of masks; the rest is without given frames.

    Attributes:
        segments: short segments are to be made.
        causal: the end is to be made.
    """

    segments: float = 0.1
    causal: float = 0.1

    def __post_init__(self) -> None:
        if min(self.segments, self.causal) < 0 or self.segments + self.causal > 1:
            raise InputError(
                f"is {self.segments:g} segments and {self.causal:g} causal; odds are 0 or more "
                "and at most 1 together.",
                "inpaint_odds",
            )


def draw_inpaint_mask(numbers: random.Random, odds: InpaintOdds, valid: int, frames: int) -> Tensor:
    """One item's mask, 1 = given; frames past `valid` are never given.

    Args:
        numbers: the item's own.
        odds: of the kinds.
        valid: scored frames, the first ones.
        frames: T.

    Returns:
        [1, T] float32.
    """
    drawn = numbers.random()
    if drawn < odds.segments:
        kind = "segments"
    else:
        kind = "causal" if drawn < odds.segments + odds.causal else "full"
    return MASKS[kind](numbers, valid, frames)
