"""Continue Audio and Loop: sources with room to be filled, as masked LATENTs."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....sa3_core.audio.waveform import prepare_source
from ....sa3_core.checks import check_positive
from ....sa3_core.editing.loop import LoopPlan, plan_loop, rotate
from ....sa3_core.editing.masks import continuation_mask, keep_mask
from ....sa3_core.editing.regions import Region
from ....sa3_core.geometry import SAMPLE_RATE, seconds_of_samples
from ..host.running import intermediate
from ..sockets.vae import require_same
from ..sockets.values import Latent
from .coding import audio_lengths, encode_sources, item_sources
from .masking import Masked, describe

_SLOP = 1e-9  # seconds; a float that misses a whole sample by less has hit it


@dataclass(frozen=True)
class Continuation:
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


def plan_continuation(source: Tensor, rate: int, region: Region) -> Continuation:
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
        return Continuation(
            F.pad(prepared, (new, 0)), seconds, samples - again, new + again, region
        )
    again = round((source.shape[-1] / rate - region.start) * SAMPLE_RATE)
    seconds = seconds_of_samples(max(samples, round(region.end * SAMPLE_RATE)))
    return Continuation(prepared, seconds, samples - again, 0, region)


def continue_audio(
    vae: Any, audio: Any, add_seconds: float, before: bool, context_seconds: float, rule: str
) -> Masked:
    """A LATENT of a source and what is to be added to it.

    Args:
        vae: ours.
        audio: the source; only frames that it fills are kept.
        add_seconds: how much is added.
        before: in front of the start instead of after the end.
        context_seconds: how much of the source the model sees, 0 = all. The rest is put back when
            decoding.
        rule: a name of MASK_RULES.

    Raises:
        InputError: nothing to add.
        RegionError: the source does not fill a latent frame.
    """
    same = require_same(vae, "Continue Audio")
    _, rider = item_sources(audio, "Continue Audio")
    waveform, rate = rider["waveform"], rider["sample_rate"]
    add = max(1, round(check_positive("add_seconds", add_seconds) * rate)) / rate
    context = round(context_seconds * rate) or waveform.shape[-1]
    lengths = audio_lengths({**audio, "waveform": waveform})
    spans = [
        (0, min(context, length)) if before else (max(0, length - context), length)
        for length in lengths
    ]
    starts = [0.0 if before else first / rate for first, _ in spans]
    plans, regions, origin = [], [], []
    for item, (first, last) in enumerate(spans):
        end = (last - first) / rate
        region = Region(-add, 0.0) if before else Region(end, end + add)
        plan = plan_continuation(waveform[item : item + 1, :, first:last], rate, region)
        plans.append(plan)
        regions.append([Region(plan.region.start + starts[item], plan.region.end + starts[item])])
        origin.append(starts[item] - plan.lead / SAMPLE_RATE)
    rider = {**rider, "lengths": lengths, "spans": spans, "origin": origin, "regions": regions}
    latent = encode_sources(
        same, [plan.audio for plan in plans], [plan.seconds for plan in plans], rider
    )
    frames = latent["samples"].shape[-1]
    keep = torch.cat([plan.keep(frames, rule) for plan in plans])
    asked = [
        [Region(max(0.0, r.start - at), r.end - at) for r in item]
        for item, at in zip(regions, origin, strict=True)
    ]
    return _masked(latent, keep, asked)


def make_loop(
    vae: Any, audio: Any, loop_seconds: float | None, seam_seconds: float, rule: str
) -> Masked:
    """A LATENT of a loop whose seam lies in the middle, marked.

    Args:
        vae: ours.
        audio: the source; its start becomes the loop.
        loop_seconds: duration of the loop, None = the whole source.
        seam_seconds: how much around the seam is made anew.
        rule: a name of MASK_RULES.

    Raises:
        RegionError: the source is shorter than the loop, or the seam does not fit.
    """
    same = require_same(vae, "Loop")
    _, rider = item_sources(audio, "Loop")
    waveform, rate = rider["waveform"], rider["sample_rate"]
    lengths = audio_lengths({**audio, "waveform": waveform})
    plans = [
        plan_loop(length, rate, loop_seconds or length / rate, seam_seconds) for length in lengths
    ]
    turned = [rotate(waveform[b : b + 1], plan) for b, plan in enumerate(plans)]
    longest = max(plan.samples for plan in plans)
    rider = {
        "waveform": torch.cat([F.pad(x, (0, longest - x.shape[-1])) for x in turned]),
        "sample_rate": rate,
        "regions": [[plan.region] for plan in plans],
        "lengths": [plan.samples for plan in plans],
        "rotate": [plan.shift for plan in plans],
    }
    prepared = [prepare_source(x, rate) for x in turned]
    seconds = [seconds_of_samples(x.shape[-1]) for x in prepared]
    latent = encode_sources(same, prepared, seconds, rider)
    frames = latent["samples"].shape[-1]
    keep = torch.cat(
        [keep_mask([p.region], frames, s, rule) for p, s in zip(plans, seconds, strict=True)]
    )
    masked = _masked(latent, keep, [[plan.region] for plan in plans])
    return Masked(masked.latent, masked.asked, [*map(_loop_text, plans), *masked.notes])


def _loop_text(plan: LoopPlan) -> str:
    return (
        f"loop of {plan.seconds:.3f} s ({plan.samples} samples), turned by half: its seam lies at "
        f"{(plan.samples - plan.shift) / plan.sample_rate:.3f} s until it is decoded"
    )


def _masked(latent: Latent, keep: Tensor, asked: list[list[Region]]) -> Masked:
    masked = {**latent, "noise_mask": intermediate(1 - keep)}
    return Masked(masked, asked, describe(keep, asked, latent["seconds"]))
