"""Audio as tensors: bring a source to what the models take, and cut results to length.

Waveforms are [B, A, N] or [A, N]: B batch, A channels, N samples, full scale at 1.0.
"""

import logging
import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..errors import AudioError
from ..geometry import SAMPLE_RATE
from .downmix import to_stereo

_log = logging.getLogger(__name__)

CHANNELS = 2
_LOUD = 8.0  # a peak above this is hardly audio at full scale 1.0
_FULL_SCALE = {torch.int8: 2**7, torch.uint8: 2**7, torch.int16: 2**15, torch.int32: 2**31}
_ZEROS, _ROLLOFF = 6, 0.99  # the resampling filter: zero crossings on each side, cutoff
_MOST_GROWTH, _MOST_GROWN = 48, 2**24  # below 1 kHz a rate is an error; short audio does no harm
_MAX_RATIO = 2**21  # either side of a reduced ratio of rates; its filter has 100 MB


def prepare_source(waveform: Tensor | None, sample_rate: int) -> Tensor:
    """Bring a source to what SAME encodes: 44.1 kHz stereo float32, its level untouched.

    Args:
        waveform: [B, A, N] or [A, N], any dtype and level; more than two channels are mixed down.
        sample_rate: of the waveform, in Hz.

    Returns:
        [B, 2, N'] float32 on the waveform's device; [A, N] becomes a batch of one.

    Raises:
        AudioError: no waveform, no samples, NaN or infinite ones, more channels than any usual
            layout has, or a sample rate that cannot be used.

    Source:
        stable-audio-3:stable_audio_3/inference/audio_utils.py (prepare_audio).
    """
    audio = as_source(waveform)
    level = peak(audio)
    if level > _LOUD:
        _log.warning(
            "The audio's peak is %g; full scale is 1. It is used as it is: scale it down if it "
            "holds integer samples.",
            level,
        )
    audio = resample(audio, sample_rate, SAMPLE_RATE)
    return audio.expand(-1, CHANNELS, -1).contiguous() if audio.shape[1] == 1 else audio


def as_source(waveform: Tensor | None) -> Tensor:
    """Check a waveform as `as_batch` does; more than two channels are mixed down, and said.

    Returns:
        [B, 1 or 2, N] float32.
    """
    audio, note = to_stereo(as_batch(waveform))
    if note:
        _log.warning(note)
    return audio


def as_batch(waveform: Tensor | None) -> Tensor:
    """Check that a waveform holds usable samples; return it as float32 [B, A, N].

    Whole numbers are divided by the full scale of their type, as files of them are.

    Raises:
        AudioError: no waveform, a type without a full scale, another number of axes, no samples,
            NaN or infinite ones.
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
    audio = _as_floats(waveform)
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


def _as_floats(waveform: Tensor) -> Tensor:
    """Samples of any type as float32, full scale at 1."""
    if waveform.is_floating_point():
        return waveform.float()
    scale = _FULL_SCALE.get(waveform.dtype)
    if scale is None:
        raise AudioError(
            f"The audio's samples are {waveform.dtype}, which has no full scale. Give floats with "
            "full scale at 1, or 16 or 32 bit integers."
        )
    if waveform.dtype == torch.uint8:
        return (waveform.float() - scale) / scale
    return (waveform.double() / scale).float()


def resample(audio: Tensor, sample_rate: int, target: int, zeros: int = _ZEROS) -> Tensor:
    """Resample float32 [..., N] by a windowed sinc; equal rates: the input.

    Args:
        audio: any device; the result is on the same.
        sample_rate: of the audio, in Hz.
        target: of the result, in Hz.
        zeros: crossings of zero on each side of the filter's middle; more are steeper.

    Returns:
        [..., ceil(N * target / sample_rate)] float32.

    Raises:
        AudioError: a rate that is no positive whole number, or two rates without a usable ratio.
    """
    rate = check_rate(sample_rate)
    if rate == target:
        return audio
    common = math.gcd(rate, target)
    up, down = target // common, rate // common
    if max(up, down) > _MAX_RATIO:
        raise AudioError(
            f"The audio's sample rate is {rate} Hz, which has no simple ratio to {target} Hz. "
            "Convert it to 44100 or 48000 Hz first."
        )
    samples = -(-audio.shape[-1] * up // down)
    if up > _MOST_GROWTH * down and audio.numel() // audio.shape[-1] * samples > _MOST_GROWN:
        raise AudioError(
            f"The audio's sample rate is {rate} Hz, with which it lasts {audio.shape[-1] / rate:g} "
            "s. Check the rate that the node or script before gave it."
        )
    from scipy.signal import resample_poly  # late: half a second that most uses never need

    out = resample_poly(audio.cpu().numpy(), up, down, axis=-1, window=_taps(up, down, zeros))
    return torch.from_numpy(np.ascontiguousarray(out, np.float32)).to(audio.device)


@lru_cache(maxsize=8)
def _taps(up: int, down: int, zeros: int) -> np.ndarray:
    """The low pass between two rates, sampled `up * down` times in their common period.

    A sinc under a Hann window, as published: the reference resamples by torchaudio's `Resample`
    with its defaults, which rounds the phase of each output sample to float32 (3e-6 at 48 kHz).
    Scaled for scipy, which multiplies it by `up`.
    """
    cutoff = _ROLLOFF * min(up, down)
    half = math.floor(zeros * up * down / cutoff)
    grid = np.arange(-half, half + 1)
    phase = grid * pow(down, -1, up) % up / up
    time = np.clip(cutoff * (grid / (up * down) + np.float32(phase) - phase), -zeros, zeros)
    return np.sinc(time) * np.cos(time * (np.pi / zeros / 2)) ** 2 * (cutoff / (up * down))


def check_rate(sample_rate: int) -> int:
    """Return a sample rate in Hz as an int or raise AudioError."""
    try:
        rate = math.nan if isinstance(sample_rate, str) else float(sample_rate)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        rate = math.nan
    if not rate.is_integer() or rate <= 0:
        raise AudioError(
            f"The audio's sample rate is {sample_rate!r}; it must be a positive whole number of Hz."
        )
    return int(rate)


def fit_length(audio: Tensor, samples: int) -> Tensor:
    """Crop [..., N] at the end or pad it there with zeros to `samples` samples."""
    if samples < 1:
        raise AudioError(f"The audio's length is to be {samples} samples; it must be 1 or more.")
    missing = samples - audio.shape[-1]
    return torch.nn.functional.pad(audio, (0, missing)) if missing > 0 else audio[..., :samples]


def peak(audio: Tensor) -> float:
    """Largest absolute sample; 0 without samples."""
    return float(audio.abs().amax()) if audio.numel() else 0.0
