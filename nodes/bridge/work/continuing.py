"""Continue Audio and Loop: sources with room to be filled, as masked LATENTs."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....sa3_core.audio.waveform import prepare_source
from ....sa3_core.editing.continuation import continue_source
from ....sa3_core.editing.loop import USUAL_SEAM, LoopPlan, loop_source, plan_loop
from ....sa3_core.editing.masks import describe_mask, keep_mask
from ....sa3_core.editing.regions import Region
from ....sa3_core.editing.source_rider import SourceRider
from ....sa3_core.errors import InputError
from ....sa3_core.geometry import seconds_of_samples
from ..host.running import intermediate
from ..sockets.vae import require_same
from ..sockets.values import Latent
from .coding import encode_sources, item_sources
from .masking import Masked


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
    given = item_sources(audio, "Continue Audio")
    rider, items = given.rider, given.items
    continued = [
        continue_source(item.waveform, item.sample_rate, add_seconds, before, context_seconds)
        for item in items
    ]
    plans, sources = [plan for plan, _ in continued], [source for _, source in continued]
    rider = replace(
        rider,
        regions=tuple(source.regions for source in sources),
        lengths=rider.own_lengths(),
        spans=tuple(source.span for source in sources),
        origin=tuple(source.origin for source in sources),
    )
    latent = encode_sources(
        same, [plan.audio for plan in plans], [plan.seconds for plan in plans], rider
    )
    frames = latent["samples"].shape[-1]
    keep = torch.cat([plan.keep(frames, rule) for plan in plans])
    asked = [
        [Region(max(0.0, start - source.origin), end - source.origin)]
        for source in sources
        for start, end in source.regions
    ]
    masked = _masked(latent, keep, asked)
    return replace(masked, notes=[*given.notes, *masked.notes])


def make_loop(
    vae: Any,
    audio: Any,
    loop_seconds: float | None,
    seam_seconds: float | None,
    rule: str,
    bar: float | None = None,
) -> Masked:
    """A LATENT of a loop whose seam lies in the middle, marked.

    Args:
        vae: ours.
        audio: the source; its start becomes the loop.
        loop_seconds: duration of the loop, None = the whole source.
        seam_seconds: how much around the seam is made anew; None = what suits the loop's length.
        rule: a name of MASK_RULES.
        bar: seconds of a bar, where the loop is counted in bars.

    Raises:
        InputError: the source has not that many bars.
        RegionError: the source is shorter than the loop, or the seam does not fit.
    """
    same = require_same(vae, "Loop")
    given = item_sources(audio, "Loop")
    rate, items = given.rider.sample_rate, given.items
    lengths = given.rider.own_lengths()
    shortest = min(lengths) / rate
    if bar and loop_seconds and loop_seconds > shortest + 1 / rate:
        raise InputError(
            f"is {loop_seconds / bar:g}, which lasts {loop_seconds:g} s, the audio only "
            f"{shortest:g} s ({shortest / bar:.3g}). Choose fewer, set the audio's own bpm, or "
            "continue the audio first.",
            "bars",
        )
    plans = [
        plan_loop(length, rate, loop_seconds or length / rate, seam_seconds) for length in lengths
    ]
    sources = [loop_source(item.waveform, plan) for item, plan in zip(items, plans, strict=True)]
    turned = [source.waveform for source in sources]
    longest = max(plan.samples for plan in plans)
    rider = SourceRider(
        torch.cat([F.pad(x, (0, longest - x.shape[-1])) for x in turned]),
        rate,
        regions=tuple(source.regions for source in sources),
        lengths=tuple(plan.samples for plan in plans),
        rotate=tuple(source.rotate for source in sources),
    )
    prepared = [prepare_source(x, rate) for x in turned]
    seconds = [seconds_of_samples(x.shape[-1]) for x in prepared]
    latent = encode_sources(same, prepared, seconds, rider)
    frames = latent["samples"].shape[-1]
    keep = torch.cat(
        [keep_mask([p.region], frames, s, rule) for p, s in zip(plans, seconds, strict=True)]
    )
    masked = _masked(latent, keep, [[plan.region] for plan in plans])
    short = [] if seam_seconds else [text for plan in plans if (text := _seam_text(plan))]
    return replace(masked, notes=[*given.notes, *map(_loop_text, plans), *short, *masked.notes])


def _loop_text(plan: LoopPlan) -> str:
    return (
        f"loop of {plan.seconds:.3f} s ({plan.samples} samples), turned by half: its seam lies at "
        f"{(plan.samples - plan.shift) / plan.sample_rate:.3f} s until it is decoded"
    )


def _seam_text(plan: LoopPlan) -> str:
    """What became of the usual seam where a loop is too short for it."""
    seam = plan.region.end - plan.region.start
    if plan.seconds / 2 >= USUAL_SEAM:
        return ""
    return f"seam_seconds {USUAL_SEAM:g} is more than half the loop: {seam:.3f} s are made anew"


def _masked(latent: Latent, keep: Tensor, asked: list[list[Region]]) -> Masked:
    masked = {**latent, "noise_mask": intermediate(1 - keep)}
    return Masked(masked, asked, describe_mask(keep, asked, latent["seconds"]))
