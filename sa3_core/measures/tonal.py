"""Pitch content of a sound: chroma, key, and bandwidth. Audio is [A, N]."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks
from torch import Tensor

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_WINDOW_SECONDS = 0.19
_LOWEST, _HIGHEST = 55.0, 5000.0  # Hz that chroma listens to
_CONCERT_C = 440.0 * 2 ** (-9 / 12)
_PEAK_FLOOR = 1e-4  # of a window's strongest peak, 40 dB
_ENERGY_SHARE = 0.99
# Krumhansl and Kessler 1982: how well each step fits a key, from its tonic.
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


@dataclass(frozen=True)
class Key:
    """An estimated key.

    Attributes:
        name: such as "A minor".
        fit: correlation with that key's profile, at most 1.
        tuning: cents above (below: negative) concert pitch.
    """

    name: str
    fit: float
    tuning: float


def chroma(audio: Tensor, sample_rate: int) -> tuple[np.ndarray, float]:
    """Energy of the twelve pitch classes from C, adding up to 1 (0 for silence), and the tuning.

    Spectral peaks are folded into one octave, after the whole sound's tuning was found as the
    direction in which their distances from concert pitch point together.

    Returns:
        [12] float64, and cents from -50 to 50.
    """
    pitches, energies = _peaks(audio, sample_rate)
    if len(pitches) == 0:
        return np.zeros(12), 0.0
    direction = np.sum(energies * np.exp(2j * np.pi * pitches))
    tuning = float(np.angle(direction) / (2 * np.pi))  # of a semitone
    classes = np.round(pitches - tuning).astype(int) % 12
    folded = np.bincount(classes, weights=energies, minlength=12)
    return folded / folded.sum(), 100 * tuning


def key(audio: Tensor, sample_rate: int) -> Key | None:
    """The key whose profile the chroma fits best; None for silence and noise without peaks."""
    folded, tuning = chroma(audio, sample_rate)
    if not folded.any() or np.ptp(folded) == 0:
        return None
    fits = {}
    for mode, profile in (("major", _MAJOR), ("minor", _MINOR)):
        for tonic, name in enumerate(NAMES):
            fits[f"{name} {mode}"] = float(np.corrcoef(folded, np.roll(profile, tonic))[0, 1])
    best = max(fits, key=fits.__getitem__)
    return Key(best, fits[best], tuning)


def bandwidth(audio: Tensor, sample_rate: int) -> float:
    """Hz below which 99 % of the energy lies; 0 for silence."""
    window = round(_WINDOW_SECONDS * sample_rate)
    power = _spectra(audio, window).sum(axis=0)
    total = power.sum()
    if not total > 0:
        return 0.0
    bins = np.searchsorted(np.cumsum(power), _ENERGY_SHARE * total)
    return float(min(bins, len(power) - 1) * sample_rate / window)


def _spectra(audio: Tensor, window: int) -> np.ndarray:
    """Power spectra of windows that overlap by half, [W, bins], channels added."""
    hop = max(1, window // 2)
    total: np.ndarray | None = None
    for channel in audio.float().cpu().numpy().astype(np.float64):
        padded = np.pad(channel, (0, max(0, window - len(channel))))
        pieces = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
        power = np.abs(np.fft.rfft(pieces * np.hanning(window), axis=1)) ** 2
        total = power if total is None else total + power
    assert total is not None
    return total


def _peaks(audio: Tensor, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Semitones above C (any octave) and energies of the spectral peaks of all windows."""
    window = round(_WINDOW_SECONDS * rate)
    pitches: list[np.ndarray] = []
    energies: list[np.ndarray] = []
    low, high = math.ceil(_LOWEST * window / rate), int(min(_HIGHEST, rate / 2.1) * window / rate)
    for power in _spectra(audio, window):
        part = power[: high + 2]
        found, _ = find_peaks(part, height=_PEAK_FLOOR * max(part.max(initial=0.0), 1e-20))
        found = found[found >= low]
        if len(found) == 0:
            continue
        left, middle, right = (np.log(part[found + step] + 1e-30) for step in (-1, 0, 1))
        exact = found + (left - right) / (2 * (left - 2 * middle + right))  # of a parabola
        pitches.append(12 * np.log2(exact * rate / window / _CONCERT_C))
        energies.append(part[found])
    if not pitches:
        return np.zeros(0), np.zeros(0)
    return np.concatenate(pitches), np.concatenate(energies)
