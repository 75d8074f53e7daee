"""Latents and audio: empty latents, encoding, decoding and trimming."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor

from ....sa3_core.audio.downmix import to_stereo
from ....sa3_core.audio.waveform import fit_length, prepare_source
from ....sa3_core.checkpoints.variants import VARIANTS
from ....sa3_core.checks import (
    MAX_AUDIO_BYTES,
    MAX_ITEMS,
    MAX_LATENT_BYTES,
    check_seconds,
    check_size,
)
from ....sa3_core.codec.autoencode import encode_items
from ....sa3_core.editing.source_rider import ItemSource, SourceRider
from ....sa3_core.errors import InputError
from ....sa3_core.geometry import (
    HEADROOM_SECONDS,
    HOP,
    LATENT_CHANNELS,
    SAMPLE_RATE,
    samples_of,
    seconds_of_samples,
    target_frames,
)
from ..host.running import chunk_reporter
from ..sockets.riding import audio_batch, latent_value
from ..sockets.vae import SA3VAE, require_same
from ..sockets.values import (
    LENGTH_KEY,
    SOURCE_KEY,
    Audio,
    Latent,
    audio_value,
    latent_seconds,
)

NO_LIMIT = 100_000.0
LONGEST = max(variant.max_seconds or 0.0 for variant in VARIANTS.values())
LONGER_SOURCE = (
    "Of a longer source, context_seconds of Inpaint Mask or Continue Audio takes only what lies "
    "around the part that is made, and the rest is kept; Extend Audio adds to it in windows."
)
_UNCAPPED = int(NO_LIMIT * SAMPLE_RATE) + 10 * SAMPLE_RATE


def aligned_frames(seconds: Sequence[float], headroom: float = HEADROOM_SECONDS) -> int:
    """Latent length for a batch, headroom included; the sampler trims to the variant's limit."""
    return max(target_frames(s, _UNCAPPED, headroom) for s in seconds)


def _headroom(seconds: float) -> dict[str, float]:
    """What a LATENT carries of it: nothing where it is the usual one."""
    return {} if seconds == HEADROOM_SECONDS else {"headroom": float(seconds)}


def empty_latent(
    seconds: Sequence[float],
    batch_size: int,
    headroom: float = HEADROOM_SECONDS,
    length_from: tuple[str, float] = ("seconds", 1.0),
) -> Latent:
    """Zeros for every duration, `batch_size` items each.

    Args:
        seconds: durations.
        batch_size: items of each.
        headroom: seconds after the piece.
        length_from: the widget that says how long, and its unit in seconds.

    Raises:
        InputError: a duration out of range, or more items or memory than allowed.
    """
    count = len(seconds) * batch_size
    if count > MAX_ITEMS:
        raise InputError(
            f"{len(seconds)} durations x batch_size {batch_size} are {count} items; at most "
            f"{MAX_ITEMS} are made at once. Queue several smaller batches."
        )
    check_room(seconds, batch_size, headroom)
    checked = [float(s) for s in seconds for _ in range(batch_size)]
    frames = aligned_frames(checked, headroom)
    zeros = torch.zeros(len(checked), LATENT_CHANNELS, frames, device=mm.intermediate_device())
    more = {LENGTH_KEY: length_from, **_headroom(headroom)}
    return latent_value(zeros, checked, **more)


def check_room(seconds: Sequence[float], each: int = 1, headroom: float = HEADROOM_SECONDS) -> None:
    """Refuse a latent of these durations, `each` items of every one, that would take too much.

    Raises:
        InputError: more than MAX_LATENT_BYTES, or a duration above NO_LIMIT.
    """
    for duration in seconds:
        check_seconds(duration, NO_LIMIT)
    count = len(seconds) * each
    size = 4 * count * LATENT_CHANNELS * aligned_frames(seconds, headroom)
    what = f"{count} item{'' if count == 1 else 's'} of up to {max(seconds):g} s as latents"
    check_size(what, size, MAX_LATENT_BYTES)


@dataclass(frozen=True)
class Sources:
    """The items of an AUDIO as sources.

    Attributes:
        rider: carries the original, mixed down where it had more than two channels; nothing is
            marked on it.
        notes: sentences for the node.
    """

    rider: SourceRider
    notes: list[str]

    @property
    def items(self) -> list[ItemSource]:
        """Each item, cut to its own length."""
        return self.rider.items_of(self.rider.waveform.shape[0])

    def prepared(self) -> list[Tensor]:
        """Each item as the models take it: [1, 2, n_b] at 44.1 kHz."""
        return [prepare_source(item.waveform, item.sample_rate) for item in self.items]


def item_sources(audio: Any, node: str) -> Sources:
    """Every item of an AUDIO as a source.

    Raises:
        AudioError: no audio, or none that can be used.
    """
    batch = audio_batch(audio, node)
    waveform, mixed = to_stereo(batch.waveform)
    unequal = any(length != waveform.shape[-1] for length in batch.lengths)
    rider = SourceRider(waveform, batch.rate, lengths=tuple(batch.lengths) if unequal else None)
    return Sources(rider, [*batch.notes, *([mixed] if mixed else [])])


def encode(
    vae: Any, audio: Any, seconds: float, headroom: float = HEADROOM_SECONDS
) -> tuple[Latent, list[str]]:
    """Encode audio at an exact duration; the source rides along by reference.

    Returns:
        The LATENT, and sentences for the node.
    """
    same = require_same(vae, "SAME Encode")
    sources = item_sources(audio, "SAME Encode")
    prepared = sources.prepared()
    durations = [seconds_of_samples(source.shape[-1]) for source in prepared]
    if seconds:
        durations = [check_seconds(seconds, NO_LIMIT)] * len(durations)
    latent = encode_sources(same, prepared, durations, sources.rider, headroom)
    notes = list(sources.notes)
    if max(durations) > LONGEST:
        notes.append(
            f"{max(durations):.2f} s is more than any model makes at once ({LONGEST:g} s). "
            f"{LONGER_SOURCE}"
        )
    return latent, notes


def encode_sources(
    vae: SA3VAE,
    sources: Sequence[Tensor],
    seconds: Sequence[float],
    rider: SourceRider,
    headroom: float = HEADROOM_SECONDS,
) -> Latent:
    """Encode prepared sources [1, 2, n], each cut or padded to its own target length.

    Args:
        vae: ours.
        sources: one per duration, or one for all.
        seconds: durations.
        rider: rides along.
        headroom: seconds after each piece.

    Raises:
        InputError: more latents or audio than allowed.
    """
    check_room(seconds, headroom=headroom)
    check_size(f"Audio of {max(seconds):g} s", 8 * max(seconds) * SAMPLE_RATE, MAX_AUDIO_BYTES)
    own = [aligned_frames([s], headroom) for s in seconds]
    report = chunk_reporter("encoding")

    def encode_one(source: Tensor, frames: int) -> Tensor:
        return vae.encode_audio(fit_length(source, frames * HOP), on_chunk=report)

    frames = encode_items(encode_one, sources, own)
    return latent_value(frames, seconds, **{SOURCE_KEY: rider}, **_headroom(headroom))


def decode(vae: Any, latent: Latent, chunk: int | None, noise_seed: int | None) -> Audio:
    """Decode a settled latent; the shorter of its items end in silence and know their length."""
    same = require_same(vae, "SAME Decode Chunked")
    samples, seconds = latent["samples"], latent_seconds(latent)
    audio = same.decode_latent(samples, chunk, noise_seed, chunk_reporter("decoding"), seconds)
    if seconds is None:
        return audio_value(audio)
    lengths = [min(samples_of(s), audio.shape[-1]) for s in seconds]
    if min(lengths) < 1:
        raise InputError(f"A duration of {min(seconds):g} s leaves no sample to decode.")
    audio = audio[..., : max(lengths)]
    for item, length in zip(audio, lengths, strict=True):
        item[:, length:] = 0
    return audio_value(audio, lengths=lengths)
