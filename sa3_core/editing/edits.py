"""What an edit is given and what sampling starts from: another take, regions, more, a loop.

keep = 1 means given, 0 to be made. A source is a waveform [A, N] or [1, A, N] at any sample rate
(more than two channels are mixed down); `prepared` is the same at 44.1 kHz in stereo.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..audio.waveform import as_source, prepare_source
from ..errors import InputError
from ..geometry import SAMPLE_RATE, samples_of, seconds_of_samples
from .continuation import continue_source
from .excerpt import excerpt_around
from .loop import loop_source, plan_loop
from .masks import keep_mask
from .paste_plan import CROSSFADE_SECONDS
from .regions import Region, invert_regions, new_duration, parse_regions
from .source_rider import ItemSource

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class AudioToAudio:
    """Noise is put on the source, and the model takes it from there (`settings.noise_level`)."""

    waveform: Tensor
    sample_rate: int


@dataclass(frozen=True, eq=False)
class Inpaint:
    """Regions of the source are made anew, the rest is given.

    Attributes:
        regions: texts as `parse_regions` reads them, one for all items or one per item.
        bpm: beats per minute, for regions in bars.
        beats_per_bar: for regions in bars.
        rule: a name of MASK_RULES, how regions are rounded to latent frames.
        paste_back: put the source's own samples back outside the regions.
        invert: keep the regions and make everything else anew.
        crossfade: seconds over which seams are smoothed, inside what is made.
        context_seconds: how much of the source around the regions the model is shown, 0 = all:
            for sources longer than its maximum. The rest is put back with the source's own
            samples, so without `paste_back` it is left out.
    """

    waveform: Tensor
    sample_rate: int
    regions: Sequence[str]
    bpm: float | None = None
    beats_per_bar: float = 4
    rule: str = "cover"
    paste_back: bool = True
    invert: bool = False
    crossfade: float = CROSSFADE_SECONDS
    context_seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Continuation:
    """The source goes on after its end, or starts earlier.

    Attributes:
        add_seconds: how much is added.
        rule: a name of MASK_RULES, what becomes of the source's last, partly filled frame.
        paste_back: put the source's own samples back.
        before: add in front of the start instead of after the end.
        context_seconds: how much of the source the model is shown, 0 = all. The rest is put back
            with the source's own samples, so without `paste_back` it is left out.
        crossfade: seconds over which the seam is smoothed, inside what is made.
    """

    waveform: Tensor
    sample_rate: int
    add_seconds: float
    rule: str = "cover"
    paste_back: bool = True
    before: bool = False
    context_seconds: float = 0.0
    crossfade: float = CROSSFADE_SECONDS


@dataclass(frozen=True, eq=False)
class Loop:
    """The source's start becomes a loop: the seam between its end and its start is made anew.

    Attributes:
        seconds: duration of the loop, see `regions.bar_seconds`; None = the whole source.
        seam_seconds: how much around the seam is made anew, half the loop at most; None = what
            suits the loop's length, see `loop.usual_seam`.
        rule: a name of MASK_RULES, how the seam is rounded to latent frames.
        paste_back: put the source's own samples back outside the seam.
        crossfade: seconds over which the seam's borders are smoothed.
    """

    waveform: Tensor
    sample_rate: int
    seconds: float | None = None
    seam_seconds: float | None = None
    rule: str = "cover"
    paste_back: bool = True
    crossfade: float = CROSSFADE_SECONDS


Edit = AudioToAudio | Inpaint | Continuation | Loop


@dataclass(frozen=True, eq=False)
class ItemPlan:
    """One item of a batch.

    Attributes:
        seconds: duration of the piece.
        audio: [1, 2, n] at 44.1 kHz, what is encoded at the piece's length; None = nothing.
        keep: the item's mask [1, 1, T] over a latent of T frames; None = everything is made.
        source: what is put back over the result; None = nothing.
    """

    seconds: float
    audio: Tensor | None = None
    keep: Callable[[int], Tensor] | None = None
    source: ItemSource | None = None


def region_lists(edit: Edit | None) -> int:
    """How many items an edit's own settings speak of."""
    return len(edit.regions) if isinstance(edit, Inpaint) else 1


def plan_items(edit: Edit, seconds: Sequence[float | None]) -> list[ItemPlan]:
    """Durations, masks and sources of all items; they share what is encoded.

    Args:
        edit: what to do.
        seconds: the duration asked for, per item; None = the source's own, lengthened by regions
            that run past its end or by what is added.

    Raises:
        AudioError: see `audio.prepare_source`.
        RegionError: see `parse_regions` and `plan_loop`.
        InputError: several sources, a duration for a continuation, a loop or a part of a source,
            or nothing to add.
    """
    source = as_source(edit.waveform)
    if source.shape[0] != 1:
        raise InputError(f"{source.shape[0]} sources were given; an edit takes one.")
    if isinstance(edit, Continuation | Loop):
        if any(wanted is not None for wanted in seconds):
            raise InputError(
                "A continuation lasts as long as its source and what is added; give no seconds."
                if isinstance(edit, Continuation)
                else "A loop has a length of its own; give no other seconds."
            )
        continued = isinstance(edit, Continuation)
        plan = _continued(edit, source) if continued else _looped(edit, source)
        return [plan] * len(seconds)
    if isinstance(edit, Inpaint) and edit.context_seconds:
        if any(wanted is not None for wanted in seconds):
            raise InputError("A part of a source keeps the source's length; give no seconds.")
        return [_excerpted(edit, source, item) for item in range(len(seconds))]
    prepared = prepare_source(source, edit.sample_rate)
    own = seconds_of_samples(prepared.shape[-1])
    if isinstance(edit, AudioToAudio):
        return [ItemPlan(own if wanted is None else wanted, prepared) for wanted in seconds]
    longest = max([own, *(wanted for wanted in seconds if wanted is not None)])
    if samples_of(longest) > prepared.shape[-1]:
        log.warning(
            "The piece lasts %g s, its source only %g s; what no region covers after that stays "
            "silent.",
            longest,
            own,
        )
    return [_inpainted(edit, source, prepared, wanted, item) for item, wanted in enumerate(seconds)]


def _inpainted(
    edit: Inpaint, source: Tensor, prepared: Tensor, wanted: float | None, item: int
) -> ItemPlan:
    own = seconds_of_samples(prepared.shape[-1])
    regions = _regions(edit, item, wanted or own)
    seconds = new_duration(regions, own) if wanted is None else wanted
    given = ItemSource(source, edit.sample_rate, tuple(regions), (0, source.shape[-1]))
    keep = partial(keep_mask, regions, seconds=seconds, rule=edit.rule)
    return ItemPlan(seconds, prepared, keep, given)


def _excerpted(edit: Inpaint, source: Tensor, item: int) -> ItemPlan:
    """A plan for the regions of an item and what surrounds them in the source."""
    rate, samples = edit.sample_rate, source.shape[-1]
    regions = _regions(edit, item, samples / rate)
    part = excerpt_around(regions, samples, rate, edit.context_seconds)
    prepared, inside = prepare_source(part.cut(source), rate), part.inside(regions)
    log.info(part.describe(samples))
    seconds = new_duration(inside, seconds_of_samples(prepared.shape[-1]))
    given = ItemSource(source, rate, tuple(regions), part.span, origin=part.origin)
    return ItemPlan(
        seconds, prepared, partial(keep_mask, inside, seconds=seconds, rule=edit.rule), given
    )


def _regions(edit: Inpaint, item: int, seconds: float) -> list[Region]:
    """What an item's own text of regions asks for in a piece of that duration."""
    text = edit.regions[item if len(edit.regions) > 1 else 0]
    regions = parse_regions(text, seconds, edit.bpm, edit.beats_per_bar)
    return invert_regions(regions, seconds) if edit.invert else regions


def _continued(edit: Continuation, source: Tensor) -> ItemPlan:
    plan, given = continue_source(
        source, edit.sample_rate, edit.add_seconds, edit.before, edit.context_seconds
    )
    return ItemPlan(plan.seconds, plan.audio, partial(plan.keep, rule=edit.rule), given)


def _looped(edit: Loop, source: Tensor) -> ItemPlan:
    rate, length = edit.sample_rate, source.shape[-1]
    plan = plan_loop(length, rate, edit.seconds or length / rate, edit.seam_seconds)
    given = loop_source(source, plan)
    prepared = prepare_source(given.waveform, rate)
    seconds = seconds_of_samples(prepared.shape[-1])
    keep = partial(keep_mask, [plan.region], seconds=seconds, rule=edit.rule)
    return ItemPlan(seconds, prepared, keep, given)


def restore_source(edit: Edit | None, plan: ItemPlan, made: Tensor) -> tuple[Tensor, int]:
    """Lay the source over what was made of it, where the edit asks for that; turn a loop back.

    Args:
        made: [2, N] at 44.1 kHz, cut to the plan's duration.

    Returns:
        [A, N'] and its sample rate: the source's own where it was laid over, else 44.1 kHz.
    """
    if edit is None or isinstance(edit, AudioToAudio) or plan.source is None:
        return made, SAMPLE_RATE
    if not edit.paste_back:
        return plan.source.turn_back(made), SAMPLE_RATE
    pasted = plan.source.paste(made[None], edit.crossfade)[0]
    return pasted.to(torch.float32), edit.sample_rate
