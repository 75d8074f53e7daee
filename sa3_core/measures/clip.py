"""All measures of one clip that need no model."""

import re
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..audio.loudness import measure as measure_loudness
from ..errors import AudioError
from . import level, rhythm, tonal

_BPM = re.compile(r"(?<![\w.])(\d{2,3}(?:\.\d+)?)\s*bpm\b", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """What a clip was asked to be; None = not told.

    Attributes:
        seconds: its duration.
        bpm: its tempo.
        seams: seconds at which pieces meet in it.
        loop: it is to repeat.
    """

    seconds: float | None = None
    bpm: float | None = None
    seams: tuple[float, ...] = ()
    loop: bool = False


@dataclass(frozen=True)
class ClipMeasures:
    """Measures of one clip; None = cannot be told of this sound, or was not asked for.

    Attributes:
        seconds: duration of the file.
        sample_rate: Hz.
        channels: number of them.
        duration_error: seconds longer than asked for.
        sound_start: seconds at which sound begins.
        sound_end: seconds at which it ends.
        trailing_silence: seconds after it.
        correlation: of left and right, -1 to 1.
        level_difference: dB by which left is louder.
        mono_loss: dB lost in mono.
        lufs: integrated loudness; None for silence.
        true_peak: dBTP; None for silence.
        clipped: samples at full scale.
        dc_offset: largest mean of a channel.
        not_finite: samples that are NaN or infinite; nothing else is measured then.
        seam_jump: the worst seam's onset over the median onset.
        loop_jump: the same where the end meets the start.
        bpm: tempo.
        regularity: of the tempo, at most 1.
        tempo_error: share by which the tempo misses the one asked for.
        key: such as "A minor".
        key_fit: correlation with the key's profile.
        tuning: cents from concert pitch.
        bandwidth: Hz below which 99 % of the energy lies.
    """

    seconds: float
    sample_rate: int
    channels: int
    duration_error: float | None = None
    sound_start: float | None = None
    sound_end: float | None = None
    trailing_silence: float | None = None
    correlation: float | None = None
    level_difference: float | None = None
    mono_loss: float | None = None
    lufs: float | None = None
    true_peak: float | None = None
    clipped: int = 0
    dc_offset: float | None = None
    not_finite: int = 0
    seam_jump: float | None = None
    loop_jump: float | None = None
    bpm: float | None = None
    regularity: float | None = None
    tempo_error: float | None = None
    key: str | None = None
    key_fit: float | None = None
    tuning: float | None = None
    bandwidth: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """By name, for JSON: infinite and missing values are None."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def bpm_of(prompt: str) -> float | None:
    """The tempo that a prompt asks for, such as 120 of "drum loop, 120 BPM"."""
    found = _BPM.search(prompt)
    return float(found[1]) if found else None


def measure_clip(audio: Tensor, sample_rate: int, request: Request | None = None) -> ClipMeasures:
    """Measure one clip.

    Args:
        audio: [A, N].
        sample_rate: Hz.
        request: what it was to be.

    Raises:
        AudioError: no sample.
    """
    if audio.ndim != 2 or audio.numel() == 0:
        raise AudioError(f"There is no sound to measure: its shape is {list(audio.shape)}.")
    request = request or Request()
    seconds = audio.shape[-1] / sample_rate
    asked = None if request.seconds is None else seconds - request.seconds
    bad = audio.numel() - int(torch.isfinite(audio).sum())
    if bad:
        return ClipMeasures(seconds, sample_rate, len(audio), asked, not_finite=bad)
    start, end = level.sounding(audio, sample_rate)
    loudness = measure_loudness(audio, sample_rate)
    seams = [rhythm.seam_jump(audio, sample_rate, at) for at in request.seams]
    jumps = [jump for jump in seams if jump is not None]
    pulse, tonality = rhythm.tempo(audio, sample_rate), tonal.key(audio, sample_rate)
    return ClipMeasures(
        seconds=seconds,
        sample_rate=sample_rate,
        channels=len(audio),
        duration_error=asked,
        sound_start=start,
        sound_end=end,
        trailing_silence=seconds - end,
        correlation=level.correlation(audio),
        level_difference=level.level_difference(audio),
        mono_loss=level.mono_loss(audio),
        lufs=loudness.lufs,
        true_peak=loudness.dbtp,
        clipped=level.clipped_samples(audio),
        dc_offset=level.dc_offset(audio),
        seam_jump=max(jumps) if jumps else None,
        loop_jump=rhythm.loop_jump(audio, sample_rate) if request.loop else None,
        bpm=pulse and pulse.bpm,
        regularity=pulse and pulse.regularity,
        tempo_error=None if request.bpm is None else rhythm.tempo_error(pulse, request.bpm),
        key=tonality and tonality.name,
        key_fit=tonality and tonality.fit,
        tuning=tonality and tonality.tuning,
        bandwidth=tonal.bandwidth(audio, sample_rate),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not (abs(value) < float("inf")):
        return None
    return value
