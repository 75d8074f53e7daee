"""Paste Back, and what decoding makes of a LATENT that its source rides on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from ....sa3_core.audio.downmix import to_stereo
from ....sa3_core.checks import broadcast
from ....sa3_core.editing.region_request import RegionRequest
from ....sa3_core.editing.regions import new_duration
from ....sa3_core.editing.source_rider import ItemSource
from ....sa3_core.errors import InputError
from ....sa3_core.geometry import SAMPLE_RATE
from ..sockets.riding import audio_batch, audio_lengths, settled
from ..sockets.values import (
    Audio,
    Latent,
    audio_value,
    batch_of,
    latent_seconds,
    rider_of,
)
from .coding import item_sources

NODE = "Paste Back"
ABSENT = "Nothing was pasted back: the latent carries no source (use Paste Back)."
STALE = (
    "Nothing was pasted back: the latent was cut or lengthened after it was masked. Mask it last."
)
DONE = "The source's own samples were put back outside the regions."
TURNED = "The loop was turned back."


def restore(audio: Audio, latent: Latent, keep: bool, crossfade: float) -> tuple[Audio, list[str]]:
    """Finish decoded audio: put the kept source back, turn a loop back.

    Args:
        audio: decoded from `latent`, at 44.1 kHz.
        latent: says what was marked, and carries the source.
        keep: whether the source is put back at all.
        crossfade: seconds, unless the latent asks for its own.

    Returns:
        The AUDIO, at the source's sample rate and channels where it was put back, and sentences
        for the node.
    """
    rider = rider_of(latent)
    mask = latent.get("noise_mask")
    if rider is None or rider.regions is None:
        return audio, [ABSENT] if keep and mask is not None else []
    if mask is not None and mask.shape[-1] != latent["samples"].shape[-1]:
        return audio, [STALE]
    sources = rider.items_of(*batch_of(latent))
    turned = [TURNED] if any(source.rotate for source in sources) else []
    seconds = latent_seconds(latent)
    if seconds is not None:
        audio = _trimmed(audio, seconds)
    if not keep:
        return (_turned_back(audio, sources) if turned else audio), turned
    return paste(audio, sources, rider.feather or crossfade), [DONE, *turned]


def paste_onto(audio: Any, latent: Any, crossfade: float) -> tuple[Audio, list[str]]:
    """Put the source that rides on a latent back over audio of any decoder.

    Args:
        audio: decoded from `latent`, at 44.1 kHz.
        latent: as `restore` takes it.
        crossfade: seconds.
    """
    latent, said = settled(latent, NODE)
    given, mixed = _given(audio)
    out, notes = restore(given, latent, True, crossfade)
    return out, [*mixed, *said, *notes]


def _given(audio: Any) -> tuple[Audio, list[str]]:
    """An AUDIO from a socket, checked and mixed down, and what to say about that."""
    batch = audio_batch(audio, NODE)
    waveform, note = to_stereo(batch.waveform)
    notes = [*batch.notes, *([note] if note else [])]
    if waveform is audio["waveform"]:
        return audio, notes
    return {**audio, "waveform": waveform, "sample_rate": batch.rate}, notes


def paste_source(
    audio: Audio, source: Any, request: RegionRequest, crossfade: float
) -> tuple[Audio, list[str]]:
    """Put a source from a socket back over what was made of it.

    Args:
        audio: decoded, at 44.1 kHz; what lies past the piece (headroom) is cut off.
        source: AUDIO.
        request: what was made anew.
        crossfade: seconds.

    Raises:
        InputError: no source, or counts that do not fit.
        RegionError: regions that cannot be used.
    """
    audio, mixed = _given(audio)
    if source is None:
        raise InputError(f"{NODE} needs the edited latent, or a source and its regions.")
    given = item_sources(source, NODE)
    sources, made = given.items, audio_lengths(audio)
    rows = broadcast(len(sources), len(made), "sources")
    chosen = [sources[row] for row in rows]
    own = [source.waveform.shape[-1] / source.sample_rate for source in chosen]
    longest = [max(s, n / SAMPLE_RATE) for s, n in zip(own, made, strict=True)]
    regions = request.resolve(longest)
    broadcast(len(regions), len(made), "lists of regions")
    items = [
        replace(source, regions=tuple(asked)) for source, asked in zip(chosen, regions, strict=True)
    ]
    pieces = [new_duration(r, s) for r, s in zip(regions, own, strict=True)]
    return paste(_trimmed(audio, pieces), items, crossfade), [*given.notes, *mixed, DONE]


def _trimmed(audio: Audio, seconds: Sequence[float]) -> Audio:
    """Audio whose items end where their pieces do: stock decoders leave the headroom on."""
    lengths = [
        min(length, max(1, round(duration * SAMPLE_RATE)))
        for length, duration in zip(audio_lengths(audio), seconds, strict=True)
    ]
    waveform = audio["waveform"][..., : max(lengths)].clone()
    for item, length in zip(waveform, lengths, strict=True):
        item[:, length:] = 0  # as our nodes leave batches of unequal items
    return {**audio, "waveform": waveform, "lengths": lengths}


def paste(audio: Audio, sources: Sequence[ItemSource], crossfade: float) -> Audio:
    """Put each item's source back over what was made of it.

    Args:
        audio: 44.1 kHz; its `lengths` count.
        sources: one per item, or one for all.
        crossfade: seconds.
    """
    waveform, lengths = audio["waveform"], audio_lengths(audio)
    if int(audio["sample_rate"]) != SAMPLE_RATE:
        raise InputError(
            f"The audio to be pasted onto has {audio['sample_rate']} Hz; it must come straight "
            f"from decoding, at {SAMPLE_RATE} Hz."
        )
    if len(sources) not in (1, len(waveform)):
        raise InputError(
            f"{len(sources)} sources for {len(waveform)} results; give 1 or {len(waveform)}."
        )
    results = [
        sources[b % len(sources)].paste(waveform[b : b + 1, :, :length], crossfade)
        for b, length in enumerate(lengths)
    ]
    longest = max(result.shape[-1] for result in results)
    padded = [F.pad(result, (0, longest - result.shape[-1])) for result in results]
    lengths = [result.shape[-1] for result in results]
    return audio_value(torch.cat(padded), sources[0].sample_rate, lengths)


def _turned_back(audio: Audio, sources: Sequence[ItemSource]) -> Audio:
    """Undo Loop's rotation on audio at 44.1 kHz."""
    waveform = audio["waveform"].clone()
    for item, length, source in zip(waveform, audio_lengths(audio), sources, strict=True):
        item[:, :length] = source.turn_back(item[:, :length])
    return {**audio, "waveform": waveform}
