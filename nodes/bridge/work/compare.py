"""What Compare Audio's player gets: takes of equal length as files, their loudness, outlines."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from torch import Tensor

from ....sa3_core.audio.downmix import to_stereo
from ....sa3_core.audio.file import write_audio
from ....sa3_core.audio.formats import FORMATS
from ....sa3_core.audio.loudness import Loudness, matching_gains, measure
from ....sa3_core.audio.pictures import wave_columns
from ....sa3_core.audio.waveform import fit_length, peak, resample
from ....sa3_core.errors import InputError
from ..sockets.riding import AudioBatch, audio_batch
from .look import describe

NODE = "Compare Audio"
MAX_TAKES = 4
FORMAT = FORMATS["flac-24"]
OUTLINE = 400  # columns of a take's outline


@dataclass(frozen=True)
class _Take:
    """One take before it is written: [A, n] at the common rate, cut to its own length."""

    label: str
    wave: Tensor
    loudness: Loudness


def compare(inputs: Mapping[str, Any], regions: Any, item: int) -> tuple[dict[str, Any], list[str]]:
    """Write the takes as temporary files of one length and rate.

    Args:
        inputs: label -> AUDIO or None.
        regions: SA3_REGIONS or None.
        item: which batch item; a single input's items are the takes instead.

    Returns:
        `ui` values for the player, and sentences for the node.

    Raises:
        InputError: nothing is connected, or a batch has no such item.
    """
    connected = {label: audio for label, audio in inputs.items() if audio is not None}
    if not connected:
        raise InputError(f"{NODE} has nothing to play. Connect audio to a, b, c or d.")
    single = len(connected) == 1
    batches = {label: audio_batch(audio, NODE) for label, audio in connected.items()}
    notes = list(dict.fromkeys(note for batch in batches.values() for note in batch.notes))
    if single:
        chosen, more = _items(next(iter(batches.values())))
        notes += more
    else:
        chosen = [_item(batch, item, label) for label, batch in batches.items()]
    rate = max(rate for _, _, rate in chosen)
    takes = []
    for label, given, own in chosen:
        stereo, mixed = to_stereo(given)  # what every browser plays
        notes += [f"{label}: {mixed}"] if mixed else []
        wave = resample(stereo, own, rate)
        takes.append(_Take(label, wave, measure(wave, rate)))
    longest = max(take.wave.shape[-1] for take in takes)
    gains = matching_gains([take.loudness.lufs for take in takes])
    shown = [_write(take, rate, longest, gain) for take, gain in zip(takes, gains, strict=True)]
    marked = region_seconds(regions, 0 if single else item)
    notes += [
        f"{take.label}: {take.wave.shape[-1] / rate:.2f} s, {describe(take.loudness)}"
        for take in takes
    ]
    length = [longest / rate]
    return {"sa3_takes": shown, "sa3_regions": marked, "sa3_seconds": length}, notes


def _items(batch: AudioBatch) -> tuple[list[tuple[str, Tensor, int]], list[str]]:
    """The first items of one batch as takes."""
    total = len(batch.waveform)
    count = min(total, MAX_TAKES)
    notes = [f"The first {count} of {total} items are played."] if total > count else []
    return [_item(batch, i, "ABCD"[i]) for i in range(count)], notes


def _item(batch: AudioBatch, item: int, label: str) -> tuple[str, Tensor, int]:
    """An item [A, n] with its label and rate; a batch of one serves for every item."""
    total = len(batch.waveform)
    if total > 1 and item >= total:
        raise InputError(f"item is {item}, but {label.lower()} has {total} items (the first is 0).")
    return label, batch.item(min(item, total - 1)).cpu(), batch.rate


def _write(take: _Take, rate: int, samples: int, gain: float) -> dict[str, Any]:
    """Write a take, padded with silence, and say what the player needs to know of it.

    FLAC ends at full scale: a louder take is stored lower, and `level` brings it back.
    """
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    level = max(1.0, peak(take.wave))
    path = folder / f"sa3_take_{uuid.uuid4().hex}.flac"
    write_audio(path, fit_length(take.wave / level, samples), rate, FORMAT)
    low, high = wave_columns(fit_length(take.wave, samples), OUTLINE)
    return {
        "label": take.label,
        "filename": path.name,
        "subfolder": "",
        "type": "temp",
        "seconds": take.wave.shape[-1] / rate,
        "lufs": take.loudness.lufs if math.isfinite(take.loudness.lufs) else None,
        "level": level,
        "gain": gain,
        "outline": [
            [round(float(a), 3), round(float(b), 3)] for a, b in zip(low, high, strict=True)
        ],
    }


def region_seconds(regions: Any, item: int) -> list[list[float]]:
    """Start and end of every region of an item; one list serves for all items."""
    if not regions:
        return []
    return [[float(start), float(end)] for start, end in regions[item % len(regions)]]
