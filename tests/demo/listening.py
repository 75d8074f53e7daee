"""What a listener would tell of the demo model's sounds: instrument, tempo, where it ends.

The instrument is judged by how the power of a sound is spread over bands of a sixth of an octave
and how it moves in time, against fresh clips of the synthesis that the model was trained on. Powers
count as they are, not their logarithms, so that a faint hiss in empty bands is not heard as an
instrument.
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


def features(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """Spread over bands and over loudness, a vector of length about 1; audio [2, samples]."""
    rates, _, bins = stft(audio.mean(0), sounds.RATE, nperseg=WINDOW, noverlap=WINDOW - HOP)
    places = np.digitize(rates, _EDGES)
    power = np.stack([(np.abs(bins[places == n]) ** 2).sum(0) for n in range(len(_EDGES) + 1)])
    spread = power.mean(1) / max(power.mean(1).sum(), 1e-20)
    level = np.sqrt(power.sum(0))
    level = level / max(level.max(), 1e-10)
    loudness = np.histogram(level, bins=6, range=(0, 1))[0] / len(level)
    return np.concatenate([np.sqrt(spread), 0.5 * np.sqrt(loudness)])


@cache
def examples() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features [N, F] of fresh clips and their places in sounds.CLASSES [N]."""
    rng = np.random.default_rng(SEED)
    found, places = [], []
    for place, name in enumerate(sounds.CLASSES):
        for _ in range(EXAMPLES):
            found.append(features(sounds.make_clip(rng, (name,), rng.uniform(2, 6)).audio))
            places.append(place)
    return np.stack(found), np.array(places)


def likeness(audio: NDArray[np.float32]) -> dict[str, float]:
    """How near a sound is to each class, 0 to 1, highest for what is heard."""
    found, places = examples()
    distances = ((found - features(audio)) ** 2).sum(1)
    return {
        name: float(np.exp(-np.sort(distances[places == place])[:_NEAREST].mean()))
        for place, name in enumerate(sounds.CLASSES)
    }


def heard(audio: NDArray[np.float32]) -> str:
    """The class of a sound, one of sounds.CLASSES."""
    found = likeness(audio)
    return max(found, key=lambda name: found[name])
