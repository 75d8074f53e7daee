"""What a listener would tell of the demo model's sounds: which instrument, which chord.

The instrument is judged in two ways, both against fresh clips of the synthesis that the model was
trained on. The whole sound: how its power is spread over bands of a sixth of an octave, and how it
moves in time; that tells a drum beat from its drums. And moment by moment: how the power of each
window is spread, against the windows of the clips; that tells instruments apart whatever notes they
play. Powers count as they are, not their logarithms, so that a faint hiss in empty bands is not
heard as an instrument.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import stft

from demo_model.maker import sounds

WINDOW, HOP = 4096, 1024
_EDGES = 40.0 * 2 ** (np.arange(53) / 6)  # 40 Hz to 16 kHz
EXAMPLES, SEED = 12, 424242  # fresh clips of each class; no seed of the training
_NEAREST = 5
_KEPT = 800  # windows of each class that are remembered, drawn from all: beats are whole windows
_LOUD = 0.01  # of the loudest window's power: 20 dB below it a moment says nothing

Values = NDArray[np.float64]


def _powers(audio: NDArray[np.float32]) -> Values:
    """Power by band and window [54, W]; audio [2, samples]."""
    rates, _, bins = stft(audio.mean(0), sounds.RATE, nperseg=WINDOW, noverlap=WINDOW - HOP)
    places = np.digitize(rates, _EDGES)
    return np.stack([(np.abs(bins[places == n]) ** 2).sum(0) for n in range(len(_EDGES) + 1)])


def features(audio: NDArray[np.float32]) -> Values:
    """Spread over bands and over loudness, a vector of length about 1; audio [2, samples]."""
    return _whole(_powers(audio))


def _whole(power: Values) -> Values:
    spread = power.mean(1) / max(power.mean(1).sum(), 1e-20)
    level = np.sqrt(power.sum(0))
    level = level / max(level.max(), 1e-10)
    loudness = np.histogram(level, bins=6, range=(0, 1))[0] / len(level)
    return np.concatenate([np.sqrt(spread), 0.5 * np.sqrt(loudness)])


def _moments(power: Values) -> tuple[Values, Values]:
    """Spreads [M, 54] of the windows that are loud, each of length 1, and their shares of power."""
    total = power.sum(0)
    loud = total > _LOUD * max(total.max(), 1e-20)
    return np.sqrt(power[:, loud] / total[loud]).T, total[loud] / max(total[loud].sum(), 1e-20)


@cache
def examples() -> dict[str, tuple[Values, Values]]:
    """By class: features [EXAMPLES, F] of fresh clips, and the spreads [M, 54] of their windows."""
    rng = np.random.default_rng(SEED)
    found = {}
    for name in sounds.CLASSES:
        clips = [sounds.make_clip(rng, (name,), rng.uniform(2, 6)) for _ in range(EXAMPLES)]
        powers = [_powers(clip.audio) for clip in clips]
        moments = np.concatenate([_moments(power)[0] for power in powers])
        wholes = np.stack([_whole(power) for power in powers])
        found[name] = (wholes, rng.permutation(moments)[:_KEPT])
    return found


def likeness(audio: NDArray[np.float32]) -> dict[str, float]:
    """How near a sound is to each class, 0 to 1, highest for what is heard."""
    power = _powers(audio)
    whole, (moments, shares) = _whole(power), _moments(power)
    found = {}
    for name, (wholes, known) in examples().items():
        by_whole = np.sort(((wholes - whole) ** 2).sum(1))[:_NEAREST].mean()
        by_moment = shares @ (2 - 2 * (moments @ known.T).max(1)) if len(moments) else 0.0
        found[name] = float(np.exp(-by_whole - by_moment))
    return found


def heard(audio: NDArray[np.float32]) -> str:
    """The class of a sound, one of sounds.CLASSES."""
    found = likeness(audio)
    return max(found, key=lambda name: found[name])


def chord(audio: NDArray[np.float32]) -> str:
    """Which of sounds.CHORDS is held: the one whose notes are the loudest together.

    Notes are whole cycles of a latent frame, so over whole frames each is one line of the spectrum.
    """
    frames = audio.shape[1] // sounds.FRAME
    lines = np.abs(np.fft.rfft(audio.mean(0)[: frames * sounds.FRAME]))[::frames]
    return max(sounds.CHORDS, key=lambda name: lines[list(sounds.CHORDS[name])].sum())
