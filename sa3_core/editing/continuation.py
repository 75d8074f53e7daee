"""Room beside a source, after its end or before its start, to be filled.

A audio channels, T latent frames.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..audio.waveform import prepare_source
from ..checks import MAX_AUDIO_BYTES, check_positive, check_size
from ..geometry import SAMPLE_RATE, seconds_of_samples
from .masks import continuation_mask
from .regions import Region
from .source_rider import ItemSource

_SLOP = 1e-9  # seconds; a float that misses a whole sample by less has hit it


@dataclass(frozen=True, eq=False)
class ContinuationPlan:
    """A source at 44.1 kHz beside which something is to be made.

    Attributes:
        audio: [1, 2, n], silence in front where the new part comes first.
        seconds: duration of the piece, the new part included.
        given: samples of the source that are not made anew.
        lead: samples made in front of them.
        region: what is made, in seconds of the source.
    """

    audio: Tensor
    seconds: float
    given: int
    lead: int
    region: Region

    def keep(self, frames: int, rule: str) -> Tensor:
        """[1, 1, frames], see `continuation_mask`."""
        return continuation_mask(self.given, frames, self.seconds, rule, self.lead)


def plan_continuation(source: Tensor, rate: int, region: Region) -> ContinuationPlan:
    """Make room beside a source.

    Args:
        source: [1, A, n] at its own rate.
        rate: in Hz.
        region: what is to be made, in seconds of the source: from before 0, or to past its end.
    """
    prepared = prepare_source(source, rate)
    samples = prepared.shape[-1]
    if region.start < 0:
        new, again = (round(seconds * SAMPLE_RATE) for seconds in (-region.start, region.end))
        seconds = seconds_of_samples(samples + new)
        region = Region(region.start - _SLOP, region.end)
        return ContinuationPlan(
            F.pad(prepared, (new, 0)), seconds, samples - again, new + again, region
        )
    again = round((source.shape[-1] / rate - region.start) * SAMPLE_RATE)
    seconds = seconds_of_samples(max(samples, round(region.end * SAMPLE_RATE)))
    return ContinuationPlan(prepared, seconds, samples - again, 0, region)


def continue_source(
    source: Tensor, rate: int, add_seconds: float, before: bool = False, context: float = 0.0
) -> tuple[ContinuationPlan, ItemSource]:
    """Plan what is to be added to a source, in whole samples of its own rate.

    Args:
        source: [1, A, n] at its own rate.
        rate: in Hz.
        add_seconds: how much is added.
        before: in front of the start instead of after the end.
        context: seconds of the source that the model is shown, 0 = all.

    Returns:
        What the model gets, and the source for what comes after it.

    Raises:
        InputError: nothing to add, or more audio than MAX_AUDIO_BYTES.
    """
    add = max(1, round(check_positive("add_seconds", add_seconds) * rate)) / rate
    length = source.shape[-1]
    size = 8 * (length / rate + add) * SAMPLE_RATE
    check_size(f"A piece of {length / rate + add:g} s", size, MAX_AUDIO_BYTES)
    shown = round(context * rate) or length
    first, last = (0, min(shown, length)) if before else (max(0, length - shown), length)
    end = (last - first) / rate
    region = Region(-add, 0.0) if before else Region(end, end + add)
    plan = plan_continuation(source[..., first:last], rate, region)
    start = 0.0 if before else first / rate
    made = Region(plan.region.start + start, plan.region.end + start)
    origin = start - plan.lead / SAMPLE_RATE
    return plan, ItemSource(source, rate, (made,), (first, last), origin=origin)
