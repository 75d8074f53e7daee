"""Loudness and true peak of audio, as broadcasters measure them, and the gain to a target.

Waveforms are [A, N]: A channels, N samples, full scale at 1.0. LUFS and LKFS are the same unit.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .waveform import check_rate, peak, resample

CEILING = -1.0  # dBTP that a gain never lifts a sound above
_OFFSET = -0.691  # so that a 997 Hz sine at full scale in one channel reads -3.01
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0  # LUFS, LU
_BLOCK_HOPS, _HOPS_PER_SECOND = 4, 10  # blocks of 400 ms, one every 100 ms
_RING_OUT = 0.2  # seconds after which the weighting's response has fallen by 400 dB
_WEIGHTS = {5: (1, 1, 1, 1.41, 1.41), 6: (1, 1, 1, 0, 1.41, 1.41)}  # by channels: L R C (LFE) Ls Rs
_FFT = 2**16
_PEAK_CHUNK, _PEAK_WIDTH = 2**16, 12  # samples at once; zero crossings of the interpolation


@dataclass(frozen=True)
class Loudness:
    """How loud a sound is.

    Attributes:
        lufs: integrated loudness; -inf for silence.
        peak: true peak, linear.
    """

    lufs: float
    peak: float

    @property
    def dbtp(self) -> float:
        """True peak in dB; -inf for silence."""
        return to_db(self.peak)


def to_db(level: float) -> float:
    """A linear level in dB; -inf for 0."""
    return 20 * math.log10(level) if level > 0 else -math.inf


def measure(audio: Tensor, sample_rate: int) -> Loudness:
    """Integrated loudness and true peak of [A, N]."""
    return Loudness(integrated(audio, sample_rate), true_peak(audio, sample_rate))


def integrated(audio: Tensor, sample_rate: int) -> float:
    """Gated loudness of [A, N] in LUFS; -inf where no block is above -70.

    A sound shorter than one block of 400 ms is one block of its own.

    Source: ITU-R BS.1770-4, annex 1.
    """
    rate = check_rate(sample_rate)
    weights = _WEIGHTS.get(len(audio), (1,) * len(audio))
    scale = audio.new_tensor(weights, dtype=torch.float64)[:, None]
    hop = max(1, round(rate / _HOPS_PER_SECOND))
    if audio.shape[-1] < _BLOCK_HOPS * hop:
        energy = (_energies(audio, rate, audio.shape[-1]) * scale).sum(0)
        return _lufs(energy.mean()) if _lufs(energy.mean()) > _ABSOLUTE_GATE else -math.inf
    hops = (_energies(audio, rate, hop) * scale).sum(0)
    blocks = hops.unfold(0, _BLOCK_HOPS, 1).mean(-1)
    levels = _OFFSET + 10 * blocks.log10()
    loud = levels > _ABSOLUTE_GATE
    if not bool(loud.any()):
        return -math.inf
    gate = _lufs(blocks[loud].mean()) + _RELATIVE_GATE
    return _lufs(blocks[loud & (levels > gate)].mean())


def _lufs(energy: Tensor) -> float:
    return _OFFSET + 10 * math.log10(float(energy)) if float(energy) > 0 else -math.inf


def _energies(audio: Tensor, rate: int, hop: int) -> Tensor:
    """Mean square after K-weighting of every whole hop, [A, hops] float64.

    The two biquads are applied as their impulse response, by FFT: ten times as fast as sample by
    sample, and exact to float32.
    """
    response = _weighting(rate)
    taps = len(response)
    size = max(_FFT, 2 ** math.ceil(math.log2(taps + hop)))
    step = (size - taps) // hop * hop
    spectrum = torch.fft.rfft(response, size).to(audio.device)
    padded = F.pad(audio.float(), (taps, 0))
    out = []
    for start in range(0, audio.shape[-1] // hop * hop, step):
        piece = padded[:, start : start + taps + step]
        length = (piece.shape[-1] - taps) // hop * hop
        weighted = torch.fft.irfft(torch.fft.rfft(piece, size) * spectrum, size)
        kept = weighted[:, taps : taps + length].unflatten(-1, (-1, hop))
        out.append(kept.square().mean(-1).double())
    return torch.cat(out, dim=-1)


@lru_cache(maxsize=8)
def _weighting(rate: int) -> Tensor:
    """Impulse response of the K-weighting at a sample rate, [taps] float32.

    The standard states its filters at 48 kHz; these are the analogue ones behind them.

    Source: ITU-R BS.1770-4 tables 1 and 2; B. De Man, "Evaluation of implementations of the EBU
    R128 loudness measurement", AES 145 (2018).
    """
    from scipy.signal import lfilter  # late: half a second that most uses never need

    impulse = np.zeros(math.ceil(_RING_OUT * rate))
    impulse[0] = 1
    for numerator, denominator in (_shelf(rate), _high_pass(rate)):
        impulse = lfilter(numerator, denominator, impulse)
    return torch.from_numpy(np.asarray(impulse, np.float32))


def _shelf(rate: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Numerator and denominator of the shelf that models the head."""
    k = math.tan(math.pi * min(1681.974450955533 / rate, 0.49))
    q = 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    b = (high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k)
    return b, (1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k)


def _high_pass(rate: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Numerator and denominator of the low-frequency cut; its gain is that of the standard."""
    k = math.tan(math.pi * 38.13547087602444 / rate)
    q = 0.5003270373238773
    scale = 1 + k / q + k * k  # the standard's numerator is 1, -2, 1 after normalising
    return (scale, -2 * scale, scale), (scale, 2 * (k * k - 1), 1 - k / q + k * k)


def true_peak(audio: Tensor, sample_rate: int) -> float:
    """Largest absolute value of [A, N] between the samples too, linear.

    Four times as many samples below 96 kHz, twice below 192 kHz.

    Source: ITU-R BS.1770-4, annex 2.
    """
    rate = check_rate(sample_rate)
    factor = 4 if rate < 96_000 else 2 if rate < 192_000 else 1
    highest = peak(audio)
    if factor == 1 or highest == 0:
        return highest
    margin = 2 * _PEAK_WIDTH
    for start in range(0, audio.shape[-1], _PEAK_CHUNK):
        piece = audio[:, max(0, start - margin) : start + _PEAK_CHUNK + margin].float()
        highest = max(highest, peak(resample(piece, 1, factor, zeros=_PEAK_WIDTH)))
    return highest


def gain_to(loudness: Loudness, target: float) -> tuple[float, bool]:
    """The gain that brings a sound to a target.

    Args:
        loudness: as measured.
        target: LUFS.

    Returns:
        Linear gain, and whether the ceiling of -1 dBTP held it back. Silence is left as it is.
    """
    if not math.isfinite(loudness.lufs):
        return 1.0, False
    wanted = target - loudness.lufs
    allowed = CEILING - loudness.dbtp
    return 10 ** (min(wanted, allowed) / 20), wanted > allowed


def matching_gains(lufs: list[float]) -> list[float]:
    """Linear gains that bring every sound down to the quietest one; silence is left out."""
    heard = [level for level in lufs if math.isfinite(level)]
    quietest = min(heard, default=0.0)
    return [10 ** ((quietest - level) / 20) if math.isfinite(level) else 1.0 for level in lufs]
