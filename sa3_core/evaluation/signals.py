"""How stable-audio-metrics prepares sounds for its extractors. Audio is [A, N] or [N] float32.

Source:
    stable-audio-metrics (fd55536): src/openl3_fd.py, src/passt_kld.py, src/clap_score.py; the
    peak is pyloudnorm's, reading and mixing are librosa's.
"""

import math
from collections.abc import Iterator

import numpy as np

from .extractor import MissingExtractorError

PEAK = 10 ** (-1 / 20)  # -1 dB
SHORTEST_PADDED = 0.15  # of a window: a shorter rest is passed on as it is


def peak_normalised(audio: np.ndarray) -> np.ndarray:
    """The loudest sample of all channels at -1 dB; silence stays silent."""
    loudest = float(np.abs(audio).max(initial=0.0))
    return audio * np.float32(PEAK / loudest) if loudest > 0 else audio


def mono(audio: np.ndarray) -> np.ndarray:
    """[A, N] -> [N], the channels' mean."""
    return audio.mean(axis=0, dtype=np.float32)


def resampled(audio: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Along the last axis, by soxr's high quality; equal rates: the input.

    Returns:
        [..., ceil(N * target / rate)] float32.

    Raises:
        MissingExtractorError: soxr is not installed.
    """
    if rate == target:
        return audio
    try:
        import soxr  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtractorError(
            f"Sounds of {rate} Hz must be brought to {target} Hz as the papers' tool does, by "
            "soxr. Install the extra with pip install '.[evaluate]'."
        ) from None
    made = np.ascontiguousarray(soxr.resample(audio.T, rate, target).T, np.float32)
    missing = math.ceil(audio.shape[-1] * target / rate) - made.shape[-1]
    edges = [(0, 0)] * (made.ndim - 1) + [(0, max(0, missing))]
    return np.pad(made, edges)[..., : made.shape[-1] + missing]


def through_16_bits(audio: np.ndarray) -> np.ndarray:
    """Samples cut to [-1, 1] and to whole steps of 1 / 32767, towards zero."""
    steps = (np.clip(audio, -1.0, 1.0) * np.float32(32767.0)).astype(np.int16)
    return (steps / 32767.0).astype(np.float32)


def windows(audio: np.ndarray, size: int, hop: int) -> Iterator[np.ndarray]:
    """Windows of [N] that overlap.

    The last one is padded with zeros to `size`, unless it is so short that it would be mostly
    zeros. What lies within the last `hop` samples gets no window of its own.
    """
    for start in range(0, max(hop, len(audio) - hop), hop):
        window = audio[start : start + size]
        if SHORTEST_PADDED * size < len(window) < size:
            window = np.pad(window, (0, size - len(window)))
        yield window
