"""Inpaint Mask: regions in seconds to a LATENT whose mask says what is made anew."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....sa3_core.checks import MAX_LATENT_BYTES, broadcast, check_size
from ....sa3_core.editing.masks import describe_mask, keep_mask, masked_spans
from ....sa3_core.editing.region_request import RegionRequest
from ....sa3_core.editing.regions import Region, merge_regions, new_duration
from ....sa3_core.editing.source_rider import SourceRider, as_regions
from ....sa3_core.errors import InputError
from ....sa3_core.geometry import HOP, SAMPLE_RATE, effective_frames, seconds_of_samples
from ..host.running import intermediate
from ..sockets.riding import settled, stamped
from ..sockets.vae import require_same
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
    """

    rule: str = "cover"
    feather: float = 0.0
    remake_previous: bool = True


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
        latent, asked = _encoded(sources, vae, request)
        notes = sources.notes
    else:
        latent, notes = settled(latent, NODE)
        if audio is not None:
            sources = item_sources(audio, NODE)
            latent = {**latent, SOURCE_KEY: _with_marks(sources.rider, latent)}
            notes += sources.notes
        asked = request.resolve(durations(latent))
        latent = lengthen(repeat_item(latent, len(asked)), asked)
    masked = set_mask(latent, asked, settings)
    return replace(masked, notes=[*notes, *masked.notes])


def _encoded(
    sources: Sources, vae: Any, request: RegionRequest
) -> tuple[Latent, list[list[Region]]]:
    """Encode audio at the length that the regions give it."""
    own = [seconds_of_samples(source.shape[-1]) for source in sources.items]
    asked = request.resolve(own)
    own = [own[i] for i in broadcast(len(own), len(asked), "sources")]
    seconds = [new_duration(regions, s) for regions, s in zip(asked, own, strict=True)]
    return encode_sources(require_same(vae, NODE), sources.items, seconds, sources.rider), asked


def _with_marks(rider: SourceRider, latent: Latent) -> SourceRider:
    """A new source with the regions that an earlier mask already marked."""
    earlier = rider_of(latent)
    if earlier is None:
        return rider
    if earlier.rotate or earlier.spans:
        raise InputError(
            f"This latent comes from Loop or Continue Audio and carries its own source; give "
            f"{NODE} no other audio."
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
    notes = describe_mask(keep, asked, seconds)
    out = {**latent, "noise_mask": intermediate(1 - keep)}
    rider = rider_of(latent)
    if rider is None:
        notes.append(NO_SOURCE)
    else:
        origin = rider.entries(rider.origin, *batch_of(latent), "origins") or [0.0] * len(seconds)
        new = [[Region(a + at, b + at) for a, b in r] for r, at in zip(asked, origin, strict=True)]
        regions = [merge_regions([*a, *b]) for a, b in zip(marked, new, strict=True)]
        feather = settings.feather if settings.feather > 0 else rider.feather
        out[SOURCE_KEY] = replace(rider, regions=as_regions(regions), feather=feather)
        notes += _silent_ends(keep, rider, latent, seconds)
    return Masked(stamped(out), [list(regions) for regions in asked], notes)


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
