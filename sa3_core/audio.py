"""Audio as tensors: bring a source to what the models take, and cut results to length.

Waveforms are [B, A, N] or [A, N]: B batch, A channels, N samples, full scale at 1.0.
"""

import logging
import math
from collections.abc import Sequence

import torch
import torchaudio.transforms
from torch import Tensor

from .errors import AudioError
from .geometry import SAMPLE_RATE, samples_of

_log = logging.getLogger(__name__)

CHANNELS = 2
_LOUD = 8.0  # a peak above this is hardly audio at full scale 1.0
_MAX_KERNEL = 2**26  # elements of torchaudio's resampling filter; some hundred MB


def prepare_source(waveform: Tensor | None, sample_rate: int) -> Tensor:
    """Bring a source to what SAME encodes: 44.1 kHz stereo float32, its level untouched.

    Args:
        waveform: [B, A, N] or [A, N], one or two channels, any dtype and level.
        sample_rate: of the waveform, in Hz.

    Returns:
        [B, 2, N'] float32 on the waveform's device; [A, N] becomes a batch of one.

    Raises:
        AudioError: no waveform, no samples, NaN or infinite ones, more than two channels, or a
            sample rate that cannot be used.

    Source:
        stable-audio-3:stable_audio_3/inference/audio_utils.py (prepare_audio).
    """
    audio = as_batch(waveform)
    channels = audio.shape[1]
    if channels > CHANNELS:
        raise AudioError(
            f"The audio has {channels} channels; the model takes mono or stereo. Mix it down to "
            "two channels first."
        )
    level = peak(audio)
    if level > _LOUD:
        _log.warning(
            "The audio's peak is %g; full scale is 1. It is used as it is: scale it down if it "
            "holds integer samples.",
            level,
        )
    audio = resample(audio, sample_rate, SAMPLE_RATE)
    return audio.expand(-1, CHANNELS, -1).contiguous() if channels == 1 else audio


def as_batch(waveform: Tensor | None) -> Tensor:
    """Check that a waveform holds usable samples; return it as float32 [B, A, N].

    Raises:
        AudioError: no waveform, another number of axes, no samples, NaN or infinite ones.
    """
    if waveform is None:
        raise AudioError(
            "There is no audio: the input is empty (a video without sound?). Load another file."
        )
    if waveform.ndim not in (2, 3):
        raise AudioError(
            f"The audio has the shape {list(waveform.shape)}; it must be [batch, channels, "
            "samples] or [channels, samples]."
        )
    audio = waveform.float()
    audio = audio if audio.ndim == 3 else audio[None]
    if audio.numel() == 0:
        raise AudioError(
            f"The audio is empty (shape {list(waveform.shape)}). Load audio that has samples."
        )
    bad = audio.numel() - int(torch.isfinite(audio).sum())
    if bad:
        raise AudioError(
            f"{bad} of the audio's {audio.numel()} samples are NaN or infinite. Check the step "
            "that made it."
        )
    return audio


def resample(audio: Tensor, sample_rate: int, target: int) -> Tensor:
    """Resample float32 [..., N] by torchaudio's default windowed sinc; equal rates: the input.

    The transform, not the function: its filter is computed in float64, as in the reference (4e-6
    apart).

    Raises:
        AudioError: a rate that is no positive whole number, or two rates without a usable ratio.
    """
    rate = check_rate(sample_rate)
    if rate == target:
        return audio
    common = math.gcd(rate, target)
    if (rate // common) * (target // common) > _MAX_KERNEL:
        raise AudioError(
            f"The audio's sample rate is {rate} Hz, which has no simple ratio to {target} Hz. "
            "Convert it to 44100 or 48000 Hz first."
        )
    return torchaudio.transforms.Resample(rate, target).to(audio.device)(audio)


def check_rate(sample_rate: int) -> int:
    """Return a sample rate in Hz as an int or raise AudioError."""
    if not math.isfinite(sample_rate) or sample_rate != int(sample_rate) or sample_rate <= 0:
        raise AudioError(
            f"The audio's sample rate is {sample_rate!r}; it must be a positive whole number of Hz."
        )
    return int(sample_rate)


def fit_length(audio: Tensor, samples: int) -> Tensor:
    """Crop [..., N] at the end or pad it there with zeros to `samples` samples."""
    if samples < 1:
        raise AudioError(f"The audio's length is to be {samples} samples; it must be 1 or more.")
    missing = samples - audio.shape[-1]
    return torch.nn.functional.pad(audio, (0, missing)) if missing > 0 else audio[..., :samples]


def peak(audio: Tensor) -> float:
    """Largest absolute sample; 0 without samples."""
    return float(audio.abs().amax()) if audio.numel() else 0.0


def trim_items(audio: Tensor, seconds: Sequence[float]) -> list[Tensor]:
    """Cut every item of a batch to its own duration.

    Args:
        audio: [B, A, N].
        seconds: one duration per item; one longer than the audio leaves the item whole.

    Returns:
        B views [A, n_b], n_b = int(seconds_b * 44100) at most N.

    Raises:
        AudioError: B and the number of durations differ.
    """
    if len(seconds) != audio.shape[0]:
        raise AudioError(
            f"The audio holds {audio.shape[0]} items but {len(seconds)} durations came with it; "
            "there must be one per item."
        )
    return [item[:, : samples_of(length)] for item, length in zip(audio, seconds, strict=True)]
