"""What rides on a LATENT or an AUDIO, and whether it still belongs to the tensor beside it.

Other nodes copy the dict and change the tensor: they join, cut, repeat, pick and resample. What
rides along counts only for items that are provably those it was made for; else the tensor's own
truth does, and the node says so. Every LATENT that leaves our nodes is `stamped`, every one that
enters is `settled`.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....sa3_core.errors import InputError
from ....sa3_core.geometry import HEADROOM_SECONDS, HOP, seconds_of_frames, target_frames
from .values import (
    SILENT_KEY,
    SOURCE_KEY,
    WHOSE_FAULT,
    Audio,
    Latent,
    audio_samples,
    latent_samples,
    latent_seconds,
    rider_of,
)

log = logging.getLogger(__name__)

MADE_KEY = "sa3_made_for"
SECONDS_MARK = "sa3_seconds"  # on the tensor itself, for samplers that see nothing else
_EMPTY = b""  # print of an item of zeros: equal to any other

_UNCAPPED = 2**62  # samples

Rows = list[int | None]


@dataclass(frozen=True)
class MadeFor:
    """Which tensor the values on a LATENT were made for.

    Attributes:
        frames: its length.
        prints: of each item.
        index: its `batch_index`.
        seconds: its durations, None = none.
        alike: nothing that rides differs between the items.
    """

    frames: int
    prints: tuple[bytes, ...]
    index: tuple[int, ...] | None
    seconds: tuple[float, ...] | None
    alike: bool


def latent_value(samples: Tensor, seconds: Sequence[float] | None = None, **extra: Any) -> Latent:
    """A LATENT of ours: samples [B, 256, T], `seconds` one float per item."""
    value: Latent = {"samples": samples, "type": "audio", "downscale_ratio_temporal": HOP}
    if seconds is not None:
        value["seconds"] = [float(s) for s in seconds]
    return stamped({**value, **extra})


def stamped(latent: Latent) -> Latent:
    """A LATENT that says which tensor its values belong to."""
    samples, seconds = latent["samples"], latent.get("seconds")
    index, rider = latent.get("batch_index"), latent.get(SOURCE_KEY)
    made = MadeFor(
        frames=samples.shape[-1],
        prints=_prints(samples),
        index=None if index is None else tuple(index),
        seconds=None if seconds is None else tuple(seconds),
        alike=len(samples) == 1 or (rider is None and len(set(seconds or ())) < 2),
    )
    setattr(samples, SECONDS_MARK, made.seconds)
    return {**latent, MADE_KEY: made}


def settled(latent: Any, node: str) -> tuple[Latent, list[str]]:
    """A LATENT with only what belongs to its tensor, one entry per item, and what to say about it.

    Args:
        latent: from a socket.
        node: names the node in errors.

    Returns:
        The LATENT, without a stamp: `seconds`, `batch_index` and the source are there only where
        they are right; items whose duration is not known last as long as their frames.

    Raises:
        InputError: no LATENT of ours, or values that cannot be read.
    """
    samples = latent_samples(latent, node)
    out = {key: value for key, value in latent.items() if key != MADE_KEY}
    index = _index(latent, len(samples))
    if index is None:
        out.pop("batch_index", None)
    made = latent.get(MADE_KEY)
    if not isinstance(made, MadeFor):
        return out, _settle_unstamped(out, samples)
    rows = _rows(samples, index, made)
    notes = _settle_seconds(out, samples, rows, made) + _settle_source(out, rows, made)
    return out, notes


def _index(latent: Latent, batch: int) -> tuple[int, ...] | None:
    """`batch_index`, where it has an entry for each item."""
    index = latent.get("batch_index")
    try:
        found = None if index is None else tuple(int(i) for i in index)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The latent's batch_index is {index!r}; it must be one whole number per item. "
            f"{WHOSE_FAULT}"
        ) from error
    return found if found is not None and len(found) == batch else None


def _settle_unstamped(out: Latent, samples: Tensor) -> list[str]:
    """What another node wrote in our manner counts where it can be right."""
    seconds, rider, frames = latent_seconds(out), rider_of(out), samples.shape[-1]
    if seconds is not None:
        out["seconds"] = list(seconds)
    headroom = out.get("headroom", HEADROOM_SECONDS)
    if seconds and frames > max(target_frames(s, _UNCAPPED, headroom) for s in seconds):
        del out["seconds"]
        out.pop(SOURCE_KEY, None)
        return [
            f"The latent has {frames} frames, more than its duration of {max(seconds):g} s takes: "
            f"all {seconds_of_frames(frames):.2f} s of it count."
        ]
    if rider is not None:
        out[SOURCE_KEY] = rider.select(range(len(samples)), len(samples))
    return []


def _settle_seconds(out: Latent, samples: Tensor, rows: Rows, made: MadeFor) -> list[str]:
    """Give every item its own duration; of a list that another node wrote it is the entry."""
    seconds = out.get("seconds")
    if seconds is None:
        return []
    if made.seconds is None or list(seconds) != list(made.seconds):
        out["seconds"] = list(latent_seconds(out) or ())
        return []
    whole = seconds_of_frames(samples.shape[-1])
    lost = [item + 1 for item, row in enumerate(rows) if row is None]
    if len(lost) == len(rows):
        del out["seconds"]
    else:
        out["seconds"] = [whole if row is None else made.seconds[row] for row in rows]
    if not lost:
        return []
    if samples.shape[-1] != made.frames:
        return [
            f"The latent was cut or lengthened by another node, from {made.frames} to "
            f"{samples.shape[-1]} frames, after its duration was set: all {whole:.2f} s of it "
            "count."
        ]
    items = f"item{'' if len(lost) == 1 else 's'} {', '.join(map(str, lost))}"
    return [
        f"Another node put other items into the latent after its durations were set: all "
        f"{whole:.2f} s of {items} count."
    ]


def _settle_source(out: Latent, rows: Rows, made: MadeFor) -> list[str]:
    """Give every item its own source, or take all of it away."""
    rider = rider_of(out)
    if rider is None:
        return []
    known = [row for row in rows if row is not None]
    if len(known) == len(rows):
        out[SOURCE_KEY] = rider.select(known, len(made.prints))
        return []
    del out[SOURCE_KEY]
    if rider.regions is None:
        return []
    return ["The source that rides on it is no longer its own: nothing of it is put back."]


def _prints(samples: Tensor) -> tuple[bytes, ...]:
    """What tells each item [C, T] from others, whatever batch it lies in."""
    return tuple(_print(item) for item in samples)


def _print(item: Tensor) -> bytes:
    if not item.any():
        return _EMPTY
    plain = item.detach().cpu().contiguous().view(torch.uint8)
    return hashlib.blake2b(plain.numpy().data, digest_size=8).digest()


def _rows(samples: Tensor, index: tuple[int, ...] | None, made: MadeFor) -> Rows:
    """Which item of the stamped batch each item is; None = not known."""
    batch = len(samples)
    if samples.shape[-1] != made.frames:
        return [None] * batch
    if made.index == index and batch == len(made.prints):
        placed: Rows = list(range(batch))
    else:
        placed = _placed(batch, index, made)
    prints = _prints(samples)
    same = set(prints) & set(made.prints)
    if not same:  # another node computed on all of it, as samplers do
        return placed
    if same == {_EMPTY}:
        return [row if p == _EMPTY else None for row, p in zip(placed, prints, strict=True)]
    return [_row(p, row, made.prints) for p, row in zip(prints, placed, strict=True)]


def _row(found: bytes, placed: int | None, prints: Sequence[bytes]) -> int | None:
    """The item with the same content, that at the expected place before others."""
    if placed is not None and prints[placed] == found:
        return placed
    return prints.index(found) if found != _EMPTY and found in prints else None


def _placed(batch: int, index: tuple[int, ...] | None, made: MadeFor) -> Rows:
    """Where ComfyUI's batch nodes would have put each item, seen from counts and indices alone.

    RepeatLatentBatch appends the batch to itself and counts its indices up, LatentFromBatch keeps
    the indices of what it takes, LatentBatch lines up two batches with the indices of both,
    LatentBatchSeedBehavior sets one index for all.
    """
    count = len(made.prints)
    if index is None:
        return [item % count for item in range(batch)] if batch % count == 0 else [None] * batch
    if len(set(index)) < batch:
        if batch == count:
            return list(range(batch))
        return [item if item < count else None for item in range(batch)]
    first = made.index or tuple(range(count))
    low, span = min(first), max(first) - min(first) + 1
    empty = set(made.prints) == {_EMPTY}
    rows: Rows = []
    for value in index:
        again = (value - low) % span + low
        sure = value in first or made.alike or empty
        rows.append(first.index(again) if sure and again in first else None)
    return rows


@dataclass(frozen=True, eq=False)
class AudioBatch:
    """An AUDIO from a socket, checked.

    Attributes:
        waveform: [B, A, N] float32.
        rate: Hz.
        lengths: samples that belong to each item.
        notes: sentences for the node.
        given: the AUDIO.
    """

    waveform: Tensor
    rate: int
    lengths: list[int]
    notes: list[str]
    given: Audio

    def item(self, index: int) -> Tensor:
        """[A, n], cut to its own length."""
        return self.waveform[index, :, : self.lengths[index]]

    @property
    def value(self) -> Audio:
        """The AUDIO, mended where something had to be."""
        if self.waveform is self.given["waveform"]:
            return self.given
        return {**self.given, "waveform": self.waveform, "sample_rate": self.rate}


def audio_batch(audio: Any, node: str) -> AudioBatch:
    """An AUDIO's waveform and rate, and what of it belongs to each item.

    Raises:
        AudioError: no audio, or none that can be used.
        InputError: lengths that are no numbers.
    """
    waveform, rate = audio_samples(audio, node)
    lengths, notes = settled_lengths({**audio, "waveform": waveform})
    return AudioBatch(waveform, rate, lengths, notes, audio)


def audio_lengths(audio: Audio) -> list[int]:
    """Samples that belong to each item of an AUDIO batch; see `settled_lengths`."""
    return settled_lengths(audio)[0]


def settled_lengths(audio: Audio) -> tuple[list[int], list[str]]:
    """Samples that belong to each item of an AUDIO batch, and what to say about it.

    The lengths that ride along count while they are as our nodes leave them: the longest item
    fills the waveform, and the others end in silence where our nodes made them. Of what another
    node joined, resampled, cut, padded or turned round, all counts.

    Raises:
        InputError: lengths that are no whole numbers.
    """
    waveform, lengths = audio["waveform"], audio.get("lengths")
    batch, total = waveform.shape[0], waveform.shape[-1]
    if lengths is None:
        return [total] * batch, []
    try:
        found = [int(n) for n in lengths]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The audio's lengths are {lengths!r}; they must be whole numbers of samples, one per "
            f"item. {WHOSE_FAULT}"
        ) from error
    if found == [total] * batch:
        return found, []
    if len(found) == batch and max(found) == total and min(found) > 0:
        silent = audio.get(SILENT_KEY) is True
        pairs = zip(waveform, found, strict=True)
        loud = [silent and bool(row[:, n:].any()) for row, n in pairs]
        if not any(loud):
            return found, []
        found = [total if more else n for n, more in zip(found, loud, strict=True)]
    else:
        found = [total] * batch
    note = "Another node changed the audio after its lengths were set: all of its samples count."
    log.warning(note)
    return found, [note]
