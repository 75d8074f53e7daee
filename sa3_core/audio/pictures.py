"""Pictures of sound as arrays: waveform columns, spectrograms, latents. Drawing is left to others.

A channels, N samples, C latent channels, V latent frames. Rows of a picture run from top to bottom.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LOWEST_HZ = 30.0
FLOOR_DB = -96.0
_WINDOW = 4096  # samples of an STFT window
_SMALLEST_HOP = 64
# Dark to light, equally spaced; lightness rises evenly, so that grey prints keep the order.
_RAMP = torch.tensor(
    [
        (0, 0, 4),
        (28, 16, 68),
        (79, 18, 123),
        (129, 37, 129),
        (181, 54, 122),
        (229, 80, 100),
        (251, 135, 97),
        (254, 194, 135),
        (252, 253, 191),
    ],
    dtype=torch.float32,
)


def coloured(levels: Tensor) -> Tensor:
    """Levels [H, W] in 0..1 as RGB [H, W, 3] uint8; NaN counts as 0."""
    place = levels.float().nan_to_num(0.0).clamp(0, 1) * (len(_RAMP) - 1)
    below = place.floor().long().clamp(max=len(_RAMP) - 2)
    share = (place - below)[..., None]
    ramp = _RAMP.to(levels.device)
    return (ramp[below] * (1 - share) + ramp[below + 1] * share).round().to(torch.uint8)


def wave_columns(audio: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Outline of [A, N] (on the CPU): lowest and highest sample of each column, both [columns].

    Fewer samples than columns are repeated.
    """
    low, high = audio.float().amin(dim=0).numpy(), audio.float().amax(dim=0).numpy()
    edges = np.arange(columns, dtype=np.int64) * len(low) // columns
    if len(low) < columns:
        return torch.from_numpy(low[edges]), torch.from_numpy(high[edges])
    lows, highs = np.minimum.reduceat(low, edges), np.maximum.reduceat(high, edges)
    return torch.from_numpy(lows), torch.from_numpy(highs)


def spectrogram(audio: Tensor, sample_rate: int, columns: int, rows: int) -> Tensor:
    """Level of [A, N] over time and frequency, [rows, columns] in dB.

    Rows are spaced logarithmically from half the sample rate (top) to 30 Hz. 0 dB is a sine at
    full scale where a row is no wider than a bin of the transform; nothing is below -96 dB.
    Averaged as powers: channels, the windows that share a column, the bins that share a row.
    """
    length = audio.shape[-1]
    hop = min(max(length // columns, _SMALLEST_HOP), _WINDOW)
    window = torch.hann_window(_WINDOW, device=audio.device)
    padded = F.pad(audio.float(), (_WINDOW // 2, _WINDOW // 2 + max(0, _WINDOW - length)))
    power = audio.new_zeros(0)
    for channel in padded:  # one after the other: half the memory
        bins = torch.stft(channel, _WINDOW, hop, window=window, center=False, return_complex=True)
        part = F.adaptive_avg_pool1d(bins.abs().square()[None], columns)[0]
        power = part if power.numel() == 0 else power + part
    power = power / len(audio) * (2 / window.sum()) ** 2
    return (10 * _log_rows(power, sample_rate, rows).clamp(min=1e-12).log10()).clamp(min=FLOOR_DB)


def _log_rows(power: Tensor, sample_rate: int, rows: int) -> Tensor:
    """Mean power [bins, W] between logarithmic frequencies, [rows, W], highest first."""
    top = sample_rate / 2
    edges = row_edges(top, rows).to(power.device) / top * (len(power) - 1) + 0.5
    sums = F.pad(power.cumsum(0), (0, 0, 1, 0))  # sums[i] = power of all bins below i
    edges = edges.clamp(0, len(power))
    below = edges.floor().long().clamp(max=len(power) - 1)
    at = torch.lerp(sums[below], sums[below + 1], (edges - below)[:, None].to(power))
    width = edges.diff()[:, None].abs().clamp(min=1e-6)
    return (at[:-1] - at[1:]).clamp(min=0) / width.to(power)


def row_edges(top: float, rows: int) -> Tensor:
    """Frequencies in Hz between which the rows of a spectrogram lie, [rows + 1], highest first."""
    lowest = min(LOWEST_HZ, top / 2)
    return top * (lowest / top) ** torch.linspace(0, 1, rows + 1)


def latent_levels(latent: Tensor, rows: int, columns: int) -> Tensor:
    """Energy of latent channels [C, V] over time, [rows, columns] in 0..1.

    Neighbouring channels share a row. It shows where a piece is busy, changes or ends, not pitch:
    the channels have no order in frequency.
    """
    energy = F.adaptive_avg_pool2d(latent.float().square()[None], (rows, columns))[0].sqrt()
    return (energy / (2 * energy.mean()).clamp(min=1e-6)).clamp(0, 1)
