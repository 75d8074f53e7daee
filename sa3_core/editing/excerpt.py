"""The part of a long source that is encoded: regions and what lies around them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..checks import check_number
from ..geometry import HOP, SAMPLE_RATE
from .regions import Region

LEAST_CONTEXT = 2 * HOP / SAMPLE_RATE  # seconds; a whole frame on each side, wherever it starts


@dataclass(frozen=True)
class Excerpt:
    """A part of a source.

    Attributes:
        span: first and last sample of the source.
        sample_rate: of the source, in Hz.
    """

    span: tuple[int, int]
    sample_rate: int

    @property
    def origin(self) -> float:
        """Second of the source at which it starts."""
        return self.span[0] / self.sample_rate

    def cut(self, waveform: Tensor) -> Tensor:
        """Its samples, of [..., N]."""
        return waveform[..., self.span[0] : self.span[1]]

    def inside(self, regions: Sequence[Region]) -> list[Region]:
        """Regions of the source in seconds of the part."""
        return [Region(start - self.origin, end - self.origin) for start, end in regions]

    def describe(self, samples: int) -> str:
        """What the model is shown of a source of so many samples, in a sentence."""
        first, last, whole = (n / self.sample_rate for n in (*self.span, samples))
        return (
            f"The model hears {first:.2f}-{last:.2f} s of the source's {whole:.2f} s; the rest is "
            "put back when decoding."
        )


def excerpt_around(
    regions: Sequence[Region], samples: int, sample_rate: int, context: float
) -> Excerpt:
    """The part of a source that its regions and the sound around them take.

    It starts and ends where latent frames of the whole source would, so that the regions are
    rounded to the frames that they have in the whole.

    Args:
        regions: in seconds of the source; they may run past its end.
        samples: length of the source.
        sample_rate: of the source, in Hz.
        context: seconds before the first region and after the last one; 0 = the whole source.

    Raises:
        InputError: a context below two latent frames that is not 0.
    """
    if context == 0 or not regions:
        return Excerpt((0, samples), sample_rate)
    check_number("context_seconds", context, LEAST_CONTEXT, note=", or 0 for the whole source")
    start = max(0.0, min(region.start for region in regions) - context)
    end = max(region.end for region in regions) + context
    frames = math.floor(start * SAMPLE_RATE / HOP), math.ceil(end * SAMPLE_RATE / HOP)
    first, last = (frame * HOP * sample_rate // SAMPLE_RATE for frame in frames)
    return Excerpt((first, min(samples, last)), sample_rate)
