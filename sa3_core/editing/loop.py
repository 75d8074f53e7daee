"""Seamless loops: the seam is turned into the middle, made anew there, and turned back.

Rotated by half its length, a loop's end and start meet in the middle of the piece, where a region
can be inpainted like any other; what becomes the piece's borders was one after the other all
along. All in whole samples at the source's own rate. A channels, N samples.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_positive
from ..errors import RegionError
from ..geometry import HOP, SAMPLE_RATE
from .regions import Region
from .source_rider import ItemSource

USUAL_SEAM = 2.0  # seconds
_SEAM_MIN_SECONDS = HOP / SAMPLE_RATE  # less than a latent frame cannot be made anew


@dataclass(frozen=True)
class LoopPlan:
    """How a loop is made.

    Attributes:
        samples: N of the loop at the source's rate.
        shift: samples that the loop is rotated by.
        sample_rate: of the source.
        region: what is made anew, in seconds of the rotated loop.
    """

    samples: int
    shift: int
    sample_rate: int
    region: Region

    @property
    def seconds(self) -> float:
        """Duration of the loop."""
        return self.samples / self.sample_rate


def usual_seam(loop_seconds: float) -> float:
    """Seconds around a seam that are made anew unless asked otherwise: 2, or half a short loop."""
    return min(USUAL_SEAM, loop_seconds / 2)


def plan_loop(
    source_samples: int, sample_rate: int, loop_seconds: float, seam_seconds: float | None = None
) -> LoopPlan:
    """Plan a loop out of the start of a source.

    Args:
        source_samples: length of the source.
        sample_rate: of the source, in Hz.
        loop_seconds: duration of the loop, see `regions.bar_seconds`.
        seam_seconds: how much around the seam is made anew; None = `usual_seam`.

    Raises:
        InputError: a duration that is no positive number.
        RegionError: the source is shorter than the loop, or the seam does not fit.
    """
    samples = round(check_positive("loop_seconds", loop_seconds) * sample_rate)
    seconds = samples / sample_rate
    if seam_seconds is None:
        seam_seconds = usual_seam(seconds)
    check_positive("seam_seconds", seam_seconds)
    if source_samples < samples:
        raise RegionError(
            f"The loop lasts {loop_seconds:g} s, the audio only {source_samples / sample_rate:g} "
            "s. Choose fewer bars or a higher BPM, or continue the audio first."
        )
    if seconds / 2 < _SEAM_MIN_SECONDS:
        raise RegionError(
            f"The loop lasts {seconds:g} s; it must last {2 * _SEAM_MIN_SECONDS:.2f} s or more, so "
            "that half of it is a latent frame."
        )
    if not _SEAM_MIN_SECONDS <= seam_seconds <= seconds / 2:
        raise RegionError(
            f"The seam is {seam_seconds:g} s; for a loop of {seconds:g} s it must last "
            f"{_SEAM_MIN_SECONDS:.2f}-{seconds / 2:g} s."
        )
    shift = samples // 2
    middle = (samples - shift) / sample_rate
    half = seam_seconds / 2
    return LoopPlan(samples, shift, sample_rate, Region(middle - half, middle + half))


def rotate(waveform: Tensor, plan: LoopPlan) -> Tensor:
    """Cut [..., N'] to the loop and turn its seam into the middle: [..., plan.samples]."""
    return torch.roll(waveform[..., : plan.samples], -plan.shift, dims=-1)


def loop_source(waveform: Tensor, plan: LoopPlan) -> ItemSource:
    """[1, A, N'] cut to the loop and turned, as the source that is pasted back in the end."""
    turned = rotate(waveform, plan)
    whole = (0, plan.samples)
    return ItemSource(turned, plan.sample_rate, (plan.region,), whole, rotate=plan.shift)
