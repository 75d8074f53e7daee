"""What an edit is given and what sampling starts from: audio-to-audio, inpainting, continuation.

keep = 1 means given, 0 to be made. A source is a waveform [A, N] or [1, A, N] at any sample rate,
mono or stereo; `prepared` is the same at 44.1 kHz in stereo.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..audio.waveform import as_batch, prepare_source
from ..checks import check_positive
from ..errors import InputError
from ..geometry import SAMPLE_RATE, samples_of, seconds_of_samples
from .masks import continuation_mask, keep_mask
from .paste import Source, paste_back
from .regions import Region, new_duration, parse_regions

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
    """

    waveform: Tensor
    sample_rate: int
    regions: Sequence[str]
    bpm: float | None = None
    beats_per_bar: float = 4
    rule: str = "cover"
    paste_back: bool = True


@dataclass(frozen=True, eq=False)
class Continuation:
    """The source goes on after its end.

    Attributes:
        add_seconds: how much is added.
        rule: a name of MASK_RULES, what becomes of the source's last, partly filled frame.
        paste_back: put the source's own samples back.
    """

    waveform: Tensor
    sample_rate: int
    add_seconds: float
    rule: str = "cover"
    paste_back: bool = True


Edit = AudioToAudio | Inpaint | Continuation


@dataclass(frozen=True)
class ItemPlan:
    """One item of a batch.

    Attributes:
        seconds: duration of the piece.
        regions: what is made anew, in seconds of the source; None = everything.
    """

    seconds: float
    regions: tuple[Region, ...] | None = None


def check_source(edit: Edit) -> Tensor:
    """The source at 44.1 kHz, [1, 2, N].

    Raises:
        AudioError: see `audio.prepare_source`.
        InputError: several sources.
    """
    prepared = prepare_source(edit.waveform, edit.sample_rate)
    if prepared.shape[0] != 1:
        raise InputError(f"{prepared.shape[0]} sources were given; an edit takes one.")
    return prepared


def region_lists(edit: Edit | None) -> int:
    """How many items an edit's own settings speak of."""
    return len(edit.regions) if isinstance(edit, Inpaint) else 1


def plan_item(edit: Edit, prepared: Tensor, seconds: float | None, item: int) -> ItemPlan:
    """Duration and regions of one item.

    Args:
        edit: what to do.
        prepared: [1, 2, N] at 44.1 kHz.
        seconds: the duration asked for; None = the source's own, lengthened by regions that run
            past its end or by what is added.
        item: index in the batch.

    Raises:
        RegionError: see `parse_regions`.
        InputError: a duration for a continuation, or nothing to add.
    """
    own = seconds_of_samples(prepared.shape[-1])
    if isinstance(edit, Continuation):
        if seconds is not None:
            raise InputError(
                "A continuation lasts as long as its source and what is added; give no seconds."
            )
        end = edit.waveform.shape[-1] / edit.sample_rate
        total = own + check_positive("add_seconds", edit.add_seconds)
        return ItemPlan(total, (Region(end, total),))
    length = own if seconds is None else seconds
    if isinstance(edit, AudioToAudio):
        return ItemPlan(length)
    text = edit.regions[item if len(edit.regions) > 1 else 0]
    regions = parse_regions(text, length, edit.bpm, edit.beats_per_bar)
    if seconds is not None:
        if samples_of(seconds) > prepared.shape[-1] and item == 0:
            log.warning(
                "The piece lasts %g s, its source only %g s; what no region covers after that "
                "stays silent.",
                seconds,
                own,
            )
        return ItemPlan(seconds, tuple(regions))
    return ItemPlan(new_duration(regions, own), tuple(regions))


def item_keep(edit: Edit, plan: ItemPlan, prepared: Tensor, frames: int) -> Tensor | None:
    """[1, 1, T] mask of one item, or None where nothing is kept."""
    if isinstance(edit, Continuation):
        return continuation_mask(prepared.shape[-1], frames, plan.seconds, edit.rule)
    if isinstance(edit, Inpaint):
        return keep_mask(plan.regions or (), frames, plan.seconds, edit.rule)
    return None


def restore_source(edit: Edit | None, plan: ItemPlan, made: Tensor) -> tuple[Tensor, int]:
    """Lay the source over what was made of it, where the edit asks for that.

    Args:
        made: [2, N] at 44.1 kHz, cut to the plan's duration.

    Returns:
        [A, N'] and its sample rate: the source's own where it was laid over, else 44.1 kHz.
    """
    if not isinstance(edit, Inpaint | Continuation) or not edit.paste_back:
        return made, SAMPLE_RATE
    source = Source(as_batch(edit.waveform), edit.sample_rate, [plan.regions or ()])
    pasted, lengths = paste_back(made[None], source)
    return pasted[0, :, : lengths[0]].to(torch.float32), edit.sample_rate
