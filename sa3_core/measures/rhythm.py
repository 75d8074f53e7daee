"""Onsets of a sound, its tempo, and jumps where pieces meet.

Onset strength is the rise of compressed band energies from one window to the next, summed over
bands (spectral flux), so that quiet bands count beside loud ones. Audio is [A, N].
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import find_peaks
from torch import Tensor

from ..checks import check_number

HOP_SECONDS = 0.006
_WINDOW_SECONDS = 0.024
_EDGES_HZ = (30, 80, 160, 320, 640, 1280, 2560, 5120, 10240, 20480)
_FLOOR = 1e-4  # of the loudest band: 40 dB below it nothing counts
_SLOWEST, _FASTEST = 40.0, 220.0  # BPM
_AS_GOOD = 0.85  # of the best period; shorter periods that are as good win
_SMOOTH = np.hanning(9)[1:-1]  # periods that are no whole number of hops must not lose by it
_REGULAR = 0.2  # autocorrelation from which a sound has a tempo
_ONSET, _ONSET_GAP = 0.15, 0.05  # of the strongest onset; seconds
_NEAR = 0.03  # seconds around a seam


@dataclass(frozen=True)
class Tempo:
    """The pulse of a sound.

    Attributes:
        bpm: beats a minute.
        regularity: autocorrelation of the onsets at that period, at most 1.
    """

    bpm: float
    regularity: float


def onset_strength(audio: Tensor, sample_rate: int) -> np.ndarray:
    """Onset strength every HOP_SECONDS, [W] float64, all 0 for silence."""
    energies = _band_energies(audio, sample_rate)
    top = energies.max(initial=0.0)
    if not top > 0:
        return np.zeros(energies.shape[1])
    levels = np.log(energies / top + _FLOOR) - math.log(_FLOOR)
    rises = np.diff(levels, axis=1, prepend=0.0)
    return np.maximum(rises, 0.0).sum(axis=0)


def onsets(audio: Tensor, sample_rate: int) -> np.ndarray:
    """Seconds at which something begins, rising."""
    strength = onset_strength(audio, sample_rate)
    gap = max(1, round(_ONSET_GAP / HOP_SECONDS))
    padded = np.pad(strength, 1)  # what begins at once is a peak too
    found, _ = find_peaks(padded, height=_ONSET * max(strength.max(initial=0), 1e-9), distance=gap)
    return (found - 1) * HOP_SECONDS


def tempo(audio: Tensor, sample_rate: int) -> Tempo | None:
    """The shortest period at which the onsets repeat as well as at any other.

    None where nothing repeats: a held tone, noise, silence, or a sound of under three beats.
    """
    strength = onset_strength(audio, sample_rate)
    if np.count_nonzero(strength > _ONSET * max(strength.max(initial=0), 1e-9)) < 3:
        return None
    smooth = np.convolve(strength, _SMOOTH, "same")
    repeats = _autocorrelation(smooth - smooth.mean())
    first = math.ceil(60 / _FASTEST / HOP_SECONDS)
    last = min(int(60 / _SLOWEST / HOP_SECONDS), len(strength) // 2)
    peaks, _ = find_peaks(repeats[: last + 2])
    peaks = peaks[(peaks >= first) & (peaks <= last)]
    if len(peaks) == 0 or repeats[peaks].max() < _REGULAR:
        return None
    best = int(peaks[repeats[peaks] >= _AS_GOOD * repeats[peaks].max()][0])
    return Tempo(60 / (_refined(repeats, best) * HOP_SECONDS), float(repeats[best]))


def tempo_error(found: Tempo | None, bpm: float) -> float | None:
    """How far a tempo is from the one asked for, as a share of it; half and double are wrong.

    Raises:
        InputError: `bpm` is not above 0.
    """
    check_number("bpm", bpm, 1e-6)
    return None if found is None else found.bpm / bpm - 1


def seam_jump(audio: Tensor, sample_rate: int, at: float) -> float | None:
    """Onset strength at a seam over the sound's median onset; above 1 it may be heard.

    Args:
        audio: [A, N].
        sample_rate: Hz.
        at: seconds of the seam.

    Returns:
        None where the sound has no onset to compare with.
    """
    strength = onset_strength(audio, sample_rate)
    found = np.round(onsets(audio, sample_rate) / HOP_SECONDS).astype(int)
    away = np.abs(found * HOP_SECONDS - at) > _NEAR
    heights = strength[found[away]]
    if len(heights) == 0:
        return None
    middle = round(at / HOP_SECONDS)
    width = max(1, round(_NEAR / HOP_SECONDS))
    near = strength[max(0, middle - width) : middle + width + 1]
    return float(near.max(initial=0.0) / np.median(heights))


def loop_jump(audio: Tensor, sample_rate: int) -> float | None:
    """`seam_jump` where the end of a sound meets its start."""
    seconds = audio.shape[-1] / sample_rate
    return seam_jump(torch.cat([audio, audio], dim=-1), sample_rate, seconds)


def _band_energies(audio: Tensor, rate: int) -> np.ndarray:
    """Energy in bands of an octave, [bands, W], of all channels together."""
    window = max(16, round(_WINDOW_SECONDS * rate))
    hop = HOP_SECONDS * rate
    count = max(1, math.ceil(audio.shape[-1] / hop))
    starts = np.round(np.arange(count) * hop).astype(int)
    frequencies = np.fft.rfftfreq(window, 1 / rate)
    edges = [edge for edge in _EDGES_HZ if edge < rate / 2]
    rows = np.digitize(frequencies, edges)
    shape = np.hanning(window)
    total = np.zeros((len(edges), count))
    for channel in audio.float().cpu().numpy():
        padded = np.pad(channel.astype(np.float64), (window // 2, window))
        pieces = np.lib.stride_tricks.sliding_window_view(padded, window)[starts]
        power = np.abs(np.fft.rfft(pieces * shape, axis=1)) ** 2
        for row in range(len(edges)):
            total[row] += power[:, rows == row + 1].sum(axis=1)
    return total


def _autocorrelation(values: np.ndarray) -> np.ndarray:
    """1 at lag 0; the falling number of pairs is made up for."""
    size = 2 ** math.ceil(math.log2(2 * len(values)))
    power = np.abs(np.fft.rfft(values, size)) ** 2
    sums = np.fft.irfft(power, size)[: len(values)]
    pairs = np.arange(len(values), 0, -1)
    means = sums / pairs
    return means / means[0] if means[0] > 0 else means * 0


def _refined(repeats: np.ndarray, period: int) -> float:
    """A period in hops, made exact by its multiples: 8 periods later an error is 8 times as far."""
    exact = float(period)
    for multiple in (1, 2, 4, 8):
        middle, width = exact * multiple, max(2, round(exact * 0.06))
        low, high = round(middle) - width, round(middle) + width + 1
        if high + 1 >= len(repeats) * 3 // 4 and multiple > 1:
            break
        at = low + int(np.argmax(repeats[low:high]))
        exact = (at + _vertex(repeats, at)) / multiple
    return exact


def _vertex(values: np.ndarray, at: int) -> float:
    """Where between neighbours a peak really is, -0.5 to 0.5."""
    left, middle, right = values[at - 1], values[at], values[at + 1]
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else float(np.clip((left - right) / (2 * bend), -0.5, 0.5))
