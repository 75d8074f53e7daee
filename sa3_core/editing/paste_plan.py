"""Where kept and made audio meet when a source is pasted back, in whole samples.

Everything here counts in samples of the result, at the source's own rate.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import SAMPLE_RATE
from .regions import Region, merge_regions

CROSSFADE_SECONDS = 0.02


@dataclass(frozen=True)
class Layout:
    """Where the source and the made spans lie in the result.

    Attributes:
        length: of the result.
        source: (start, end) of the source.
        spans: (start, end) of each made span, sorted.
        rate: samples per second.
    """

    length: int
    source: tuple[int, int]
    spans: tuple[tuple[int, int], ...]
    rate: int


@dataclass(frozen=True)
class Seam:
    """How one end of a made span joins what lies beside it.

    Attributes:
        kind: "cross" (what is kept goes on behind the seam), "jump" (the source begins or ends
            there) or "open" (the result does).
        fade: samples inside the span over which it happens.
    """

    kind: str
    fade: int


def plan_layout(
    regions: Sequence[Region],
    source_samples: int,
    sample_rate: int,
    made_samples: int,
    first_sample: int = 0,
) -> Layout:
    """Place the source and the regions in the result.

    Where a border of a region falls between two samples, the kept side gets the one it cuts: no
    sample outside a region is ever touched.

    Args:
        regions: in seconds of the source; may overlap, lie before 0 or past the source's end.
        source_samples: N at the source's rate.
        sample_rate: of the source.
        made_samples: length of the generated audio at 44.1 kHz.
        first_sample: of a longer source that this one is a part of; regions are the longer one's.

    Returns:
        The layout. Its length is the source's with what the regions add, or the generated
        audio's where the two differ by more than rounding; kept time without a source is silent.
    """
    # In samples, so that a part rounds its regions as the whole does.
    merged = [
        (start * sample_rate - first_sample, end * sample_rate - first_sample)
        for start, end in merge_regions(regions)
    ]
    lead = int(max([0.0, *(-start for start, _ in merged)]))
    end = max([0.0, *(end for _, end in merged)])
    length = lead + max(source_samples, round(end))
    made = made_samples * sample_rate / SAMPLE_RATE
    if abs(made - length) > 1 + 2 * sample_rate / SAMPLE_RATE:
        length = round(made)
    source = (min(lead, length), min(lead + source_samples, length))
    borders = (*source, length)
    spans = []
    for start, end in merged:
        first = _whole(lead + start, math.ceil, borders)
        last = _whole(lead + end, math.floor, borders)
        first, last = max(first, 0), min(last, length)
        if last > first:
            spans.append((first, last))
    return Layout(length, source, tuple(spans), sample_rate)


def fade_samples(crossfade: float, sample_rate: int) -> int:
    """Samples of a crossfade given in seconds, or InputError."""
    if not (math.isfinite(crossfade) and crossfade >= 0):
        raise InputError(f"The crossfade is {crossfade!r} s; it must be 0 or more.")
    return round(crossfade * sample_rate)


def seams(layout: Layout, index: int, fade: int) -> tuple[Seam, Seam]:
    """Left and right seam of a made span.

    Args:
        layout: of the result.
        index: of the span.
        fade: wanted length of the crossfade; a span narrower than two of them shortens it.
    """
    first, last = layout.spans[index]
    start, end = layout.source
    joined = (first > 0) + (last < layout.length)
    fade = min(fade, (last - first) // max(joined, 1))
    left = right = "cross"
    if first == 0:
        left = "open"
    elif start < first <= end < first + fade:  # too little source left to fade from
        left = "jump"
    if last == layout.length:
        right = "open"
    elif last - fade < start <= last < end:
        right = "jump"
    return (
        Seam(left, 0 if left == "open" else fade),
        Seam(right, 0 if right == "open" else fade),
    )


def rise(samples: int) -> Tensor:
    """The rising half of an equal-power crossfade, (samples,) float32."""
    return torch.sin((torch.arange(samples) + 0.5) * (math.pi / 2 / max(samples, 1)))


def _whole(position: float, rounded: Callable[[float], int], borders: Sequence[int]) -> int:
    """A border of a region in whole samples; one that means a border of the audio becomes it."""
    for border in borders:
        if abs(position - border) <= 0.5:
            return border
    return rounded(position)
