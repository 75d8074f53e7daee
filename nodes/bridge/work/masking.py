"""Inpaint Mask: regions in seconds to a LATENT whose mask says what is made anew."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....sa3_core.audio.waveform import prepare_source
from ....sa3_core.checks import MAX_LATENT_BYTES, broadcast, check_size
from ....sa3_core.editing.excerpt import excerpt_around
from ....sa3_core.editing.masks import describe_mask, keep_mask, masked_spans
from ....sa3_core.editing.region_request import RegionRequest
from ....sa3_core.editing.regions import Region, merge_regions, new_duration
from ....sa3_core.editing.source_rider import SourceRider, as_regions
from ....sa3_core.errors import InputError
from ....sa3_core.geometry import HOP, SAMPLE_RATE, effective_frames, seconds_of_samples
from ..host.running import intermediate
from ..sockets.riding import settled, stamped
from ..sockets.vae import SA3VAE, require_same
from ..sockets.values import (
    SOURCE_KEY,
    Latent,
    batch_of,
    durations,
    keep_of,
    rider_of,
)
from .coding import Sources, aligned_frames, check_room, encode_sources, item_sources

NODE = "Inpaint Mask"
NO_SOURCE = (
    "No source rides on this latent, so nothing can be pasted back: connect `audio` as well."
)


@dataclass(frozen=True)
class MaskSettings:
    """How regions become a mask.

    Attributes:
        rule: a name of MASK_RULES.
        feather: seconds of crossfade when the source is pasted back; 0 = the decoding node's.
        remake_previous: make what the latent's earlier mask marks anew too.
        context: seconds of the audio around the regions that are encoded; 0 = all of it.
    """

    rule: str = "cover"
    feather: float = 0.0
    remake_previous: bool = True
    context: float = 0.0


@dataclass(frozen=True)
class Masked:
    """A masked LATENT and what to say about it.

    Attributes:
        latent: with `noise_mask` and, where there is a source, `sa3_source`.
        asked: the regions asked for, in seconds of the latent's piece, per item.
        notes: sentences for the node.
    """

    latent: Latent
    asked: list[list[Region]]
    notes: list[str]

    @property
    def keep(self) -> Tensor:
        """[B, 1, T], 1 = given."""
        return 1 - self.latent["noise_mask"]

    @property
    def regions(self) -> list[list[Region]]:
        """The regions asked for, in seconds of the finished audio."""
        return _shifted(self.asked, _starts(self.latent, len(self.asked)))


def mask_regions(
    latent: Latent | None,
    audio: Any,
    vae: Any,
    request: RegionRequest,
    settings: MaskSettings,
) -> Masked:
    """Mark regions of a latent, or of audio that is encoded here.

    Args:
        latent: an encoded or sampled one; None = encode `audio`.
        audio: the source; beside a latent it is only what is pasted back.
        vae: needed with `audio` alone.
        request: what is marked.
        settings: how.

    Raises:
        InputError: neither latent nor audio and VAE, or counts that do not fit.
        RegionError: regions that cannot be used.
    """
    if latent is None:
        if audio is None or vae is None:
            raise InputError(f"{NODE} needs a latent, or audio together with a vae to encode it.")
        sources = item_sources(audio, NODE)
        encoded = _encoded(sources, require_same(vae, NODE), request, settings.context)
        masked = set_mask(encoded.latent, encoded.asked, settings)
        notes = [*sources.notes, *encoded.notes, *masked.notes]
        return replace(masked, latent=_exact(masked.latent, encoded), notes=notes)
    latent, notes = settled(latent, NODE)
    if settings.context:
        raise InputError(
            f"is {settings.context:g}, but a latent is given, which is encoded already. Leave "
            "it at 0, or connect audio and vae and no latent.",
            "context_seconds",
        )
    if audio is not None:
        sources = item_sources(audio, NODE)
        latent = {**latent, SOURCE_KEY: _with_marks(sources.rider, latent)}
        notes += sources.notes
    asked = request.resolve(durations(latent))
    latent = lengthen(repeat_item(latent, len(asked)), asked)
    masked = set_mask(latent, asked, settings)
    return replace(masked, notes=[*notes, *masked.notes])


@dataclass(frozen=True)
class _Encoded:
    """Audio that was encoded for its regions.

    Attributes:
        latent: LATENT.
        asked: the regions in seconds of its piece, per item.
        exact: the same in seconds of the source.
        notes: sentences for the node.
    """

    latent: Latent
    asked: list[list[Region]]
    exact: list[list[Region]]
    notes: list[str]


def _encoded(sources: Sources, vae: SA3VAE, request: RegionRequest, context: float) -> _Encoded:
    """Encode audio at the length that the regions give it, or only what is around them."""
    rate, items = sources.rider.sample_rate, sources.items
    lengths = [item.waveform.shape[-1] for item in items]
    own = [seconds_of_samples(math.ceil(n * SAMPLE_RATE / rate)) for n in lengths]
    asked = request.resolve(own)
    rows = broadcast(len(items), len(asked), "sources")
    if not context:
        seconds = [new_duration(r, own[row]) for r, row in zip(asked, rows, strict=True)]
        latent = encode_sources(vae, sources.prepared(), seconds, sources.rider)
        return _Encoded(latent, asked, asked, [])
    parts = [
        excerpt_around(r, lengths[row], rate, context) for r, row in zip(asked, rows, strict=True)
    ]
    prepared = [
        prepare_source(part.cut(items[row].waveform), rate)
        for part, row in zip(parts, rows, strict=True)
    ]
    inside = [part.inside(regions) for part, regions in zip(parts, asked, strict=True)]
    seconds = [
        new_duration(regions, seconds_of_samples(source.shape[-1]))
        for regions, source in zip(inside, prepared, strict=True)
    ]
    rider = replace(
        sources.rider,
        lengths=sources.rider.own_lengths(),
        spans=tuple(part.span for part in parts),
        origin=tuple(part.origin for part in parts),
    )
    notes = [part.describe(lengths[row]) for part, row in zip(parts, rows, strict=True)]
    return _Encoded(encode_sources(vae, prepared, seconds, rider), inside, asked, notes)


def _exact(latent: Latent, encoded: _Encoded) -> Latent:
    """The regions as they were asked for: back and forth between two starts they lose some bits."""
    rider = rider_of(latent)
    assert rider is not None
    regions = as_regions([merge_regions(regions) for regions in encoded.exact])
    return {**latent, SOURCE_KEY: replace(rider, regions=regions)}


def _with_marks(rider: SourceRider, latent: Latent) -> SourceRider:
    """A new source with the regions that an earlier mask already marked."""
    earlier = rider_of(latent)
    if earlier is None:
        return rider
    if earlier.rotate or earlier.spans:
        raise InputError(
            "This latent comes from Loop, Continue Audio or a mask with context_seconds and "
            f"carries its own source; give {NODE} no other audio."
        )
    return replace(rider, regions=earlier.regions)


def repeat_item(latent: Latent, batch: int) -> Latent:
    """A latent of one item repeated for several lists of regions; others must have `batch`.

    Raises:
        InputError: naming both counts.
    """
    samples = latent["samples"]
    rows = broadcast(samples.shape[0], batch, "latents")
    if len(rows) == samples.shape[0]:
        return latent
    size = 4 * batch * samples[0].numel()
    check_size(f"{batch} lists of regions on this latent", size, MAX_LATENT_BYTES)
    out = {**latent, "samples": samples[rows]}
    seconds = durations(latent)
    if latent.get("seconds") is not None:
        out["seconds"] = [seconds[i] for i in rows]
    if "batch_index" in latent:
        out["batch_index"] = [latent["batch_index"][0] + b for b in range(batch)]
    return out


def lengthen(latent: Latent, asked: Sequence[Sequence[Region]]) -> Latent:
    """Give the latent the length that regions past its end ask for; what is added is zero.

    A region that runs past the end covers all that is added, so no kept frame is ever a zero.
    """
    before = durations(latent)
    after = [new_duration(regions, s) for regions, s in zip(asked, before, strict=True)]
    if tuple(after) == before:
        return latent
    check_room(after)
    samples = latent["samples"]
    missing = max(0, aligned_frames(after) - samples.shape[-1])
    out = {**latent, "samples": F.pad(samples, (0, missing)), "seconds": after}
    earlier = keep_of(latent)
    if earlier is not None:
        out["noise_mask"] = 1 - F.pad(earlier, (0, missing))
    return out


def set_mask(latent: Latent, asked: Sequence[Sequence[Region]], settings: MaskSettings) -> Masked:
    """Write the mask and mark the regions on the source.

    Args:
        latent: its mask and marks so far are joined with the new ones.
        asked: per item, in seconds of the piece.
        settings: rounding and joining.
    """
    seconds, frames = durations(latent), latent["samples"].shape[-1]
    keep = torch.cat(
        [keep_mask(r, frames, s, settings.rule) for r, s in zip(asked, seconds, strict=True)]
    )
    earlier = keep_of(latent)
    marked = _earlier_regions(latent, earlier, seconds)
    if earlier is not None and settings.remake_previous:
        keep = torch.minimum(keep, earlier.cpu())
    starts = _starts(latent, len(seconds))
    notes = describe_mask(keep, asked, seconds, starts)
    out = {**latent, "noise_mask": intermediate(1 - keep)}
    rider = rider_of(latent)
    if rider is None:
        notes.append(NO_SOURCE)
    else:
        origin = rider.entries(rider.origin, *batch_of(latent), "origins") or [0.0] * len(seconds)
        new = _shifted(asked, origin)
        regions = [merge_regions([*a, *b]) for a, b in zip(marked, new, strict=True)]
        feather = settings.feather if settings.feather > 0 else rider.feather
        out[SOURCE_KEY] = replace(rider, regions=as_regions(regions), feather=feather)
        notes += _silent_ends(keep, rider, latent, seconds)
    return Masked(stamped(out), [list(regions) for regions in asked], notes)


def _starts(latent: Latent, items: int) -> list[float]:
    """Second of the finished audio at which each item's piece starts."""
    rider = rider_of(latent)
    spans = None if rider is None else rider.entries(rider.spans, *batch_of(latent), "spans")
    if rider is None or spans is None:
        return [0.0] * items
    return [first / rider.sample_rate for first, _ in spans]


def _shifted(lists: Sequence[Sequence[Region]], starts: Sequence[float]) -> list[list[Region]]:
    """Each item's regions, later by its start."""
    return [
        [Region(a + at, b + at) for a, b in regions]
        for regions, at in zip(lists, starts, strict=True)
    ]


def _earlier_regions(
    latent: Latent, earlier: Tensor | None, seconds: Sequence[float]
) -> list[list[Region]]:
    """What was marked before, in seconds of the source; of a foreign mask its own frames."""
    rider = rider_of(latent)
    if rider is None or earlier is None:
        return [[] for _ in seconds]
    marked = rider.entries(rider.regions, *batch_of(latent), "regions")
    if marked is not None:
        return [list(regions) for regions in marked]
    rows = broadcast(earlier.shape[0], len(seconds), "masks")
    return [masked_spans(earlier[row], s) for row, s in zip(rows, seconds, strict=True)]


def _silent_ends(
    keep: Tensor, rider: SourceRider, latent: Latent, seconds: Sequence[float]
) -> list[str]:
    """Say where a piece outlasts its source and no region covers that."""
    if rider.spans is not None:
        return []
    rate, default = rider.sample_rate, rider.waveform.shape[-1]
    own = rider.entries(rider.lengths, *batch_of(latent), "lengths") or [default] * len(seconds)
    notes = []
    for row, length, duration in zip(keep, own, seconds, strict=True):
        covered = math.ceil(length * SAMPLE_RATE / rate / HOP)
        if bool((row[0, covered : effective_frames(duration)] > 0).any()):
            notes.append(
                f"The source ends at {length / rate:.3f} s of {duration:g} s; what no region "
                "covers after that stays silent."
            )
    return notes
