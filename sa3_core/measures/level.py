"""Level, stereo image and faults of a sound. Audio is [A, N], full scale at 1.0."""

import math

import torch
from torch import Tensor

_WINDOW_SECONDS = 0.01
_AUDIBLE = 1e-3  # of the loudest window: 60 dB below it is silence
_SILENT = 1e-5  # absolute, -100 dB
FULL_SCALE = 32767 / 32768  # what 16 bits hold


def sounding(audio: Tensor, sample_rate: int) -> tuple[float, float]:
    """Seconds at which sound begins and ends.

    Of windows of 10 ms those count that are less than 60 dB below the loudest and above -100 dB.

    Returns:
        (0, 0) for silence.
    """
    size = max(1, round(_WINDOW_SECONDS * sample_rate))
    samples = audio.shape[-1]
    count = math.ceil(samples / size)
    padded = torch.nn.functional.pad(audio.double(), (0, count * size - samples))
    levels = padded.reshape(len(audio), count, size).square().mean(dim=2).amax(dim=0).sqrt()
    loud = torch.nonzero(levels > max(_AUDIBLE * float(levels.max()), _SILENT))
    if len(loud) == 0:
        return 0.0, 0.0
    first, last = int(loud[0]), int(loud[-1]) + 1
    return first * size / sample_rate, min(last * size, samples) / sample_rate


def correlation(audio: Tensor) -> float | None:
    """Of left and right: 1 = mono, 0 = unrelated, -1 = opposite; None for a silent side."""
    if len(audio) == 1:
        return 1.0
    left, right = audio[0].double(), audio[1].double()
    size = float(left.norm() * right.norm())
    return max(-1.0, min(1.0, float(left @ right) / size)) if size > 0 else None


def level_difference(audio: Tensor) -> float | None:
    """dB by which left is louder than right; None where a side is silent."""
    if len(audio) == 1:
        return 0.0
    left, right = (float(side.double().square().mean()) for side in audio[:2])
    return 10 * math.log10(left / right) if left > 0 and right > 0 else None


def mono_loss(audio: Tensor) -> float | None:
    """dB that are lost when the channels are added: 0 = nothing, 3 = unrelated; None for silence.

    Infinite where they cancel.
    """
    mean = float(audio.double().square().mean())
    if mean == 0:
        return None
    together = float(audio.double().mean(dim=0).square().mean())
    return 10 * math.log10(mean / together) if together > 0 else math.inf


def clipped_samples(audio: Tensor) -> int:
    """Samples at full scale or beyond."""
    return int((audio.abs() >= FULL_SCALE).sum())


def dc_offset(audio: Tensor) -> float:
    """Largest mean of a channel, with its sign; 0 is right."""
    means = audio.double().mean(dim=1)
    return float(means[means.abs().argmax()])
