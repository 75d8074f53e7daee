"""Pictures of sound as arrays: outlines, zero crossings, spectrograms, latents.

Drawing is left to others.

A channels, N samples, C latent channels, V latent frames. Rows of a picture run from top to bottom.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LOWEST_HZ = 30.0
FLOOR_DB = -96.0
_WINDOW = 4096  # samples of an STFT window
_SMALLEST_HOP = 64
_TONE_BINS = 1.5  # of the transform, over which a Hann window spreads a tone's power
_BINS_AT_ONCE = 8192  # of zero crossings; fresh memory costs more than the arithmetic
NO_CROSSING = 255
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
    """Outline of [A, N] (on the CPU) in columns of equal length, both [columns].

    Fewer samples than columns are repeated.
    """
    edges = np.arange(columns + 1, dtype=np.int64) * audio.shape[-1] // columns
    if audio.shape[-1] < columns:
        chosen = audio.float()[:, edges[:-1]]
        return chosen.amin(dim=0), chosen.amax(dim=0)
    low, high = outline(audio, edges)
    return torch.from_numpy(low), torch.from_numpy(high)


def outline(audio: Tensor, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest sample of any channel between each two edges.

    Args:
        audio: [A, N] on the CPU.
        edges: int64 [n + 1], in samples, never falling, within 0..N.

    Returns:
        Both float32 [n]; 0 where two edges are equal.
    """
    end, filled = int(edges[-1]), edges[1:] > edges[:-1]
    starts = edges[:-1][filled]  # what lies between them has no gaps
    lows, highs = (np.zeros(len(filled), np.float32) for _ in range(2))
    if len(starts):
        part = audio[:, :end].float()
        lows[filled] = np.minimum.reduceat(part.amin(dim=0).numpy(), starts)
        highs[filled] = np.maximum.reduceat(part.amax(dim=0).numpy(), starts)
    return lows, highs


def zero_crossings(audio: Tensor, size: int) -> np.ndarray:
    """Place of the first zero crossing of the mono mix in each bin of `size` samples.

    Args:
        audio: [A, N] on the CPU.
        size: at most 254.

    Returns:
        uint8 [ceil(N / size)]: samples from the bin's start; 255 = none.
    """
    block = size * _BINS_AT_ONCE
    starts = range(0, audio.shape[1], block)
    return np.concatenate([_first_changes(audio.numpy(), at, block, size) for at in starts])


def _first_changes(audio: np.ndarray, at: int, block: int, size: int) -> np.ndarray:
    """The crossings of one block of samples."""
    before = max(at - 1, 0)  # its last sample belongs to the first change
    mix: Any = sum(audio[:, before : at + block])  # by rows: numpy is slow over two of them
    below = mix < 0
    if before == at:
        below = np.append(below[:1], below)
    count = len(below) - 1
    changes = np.zeros(-(-count // size) * size, dtype=bool)
    np.not_equal(below[1:], below[:-1], out=changes[:count])
    bins = changes.reshape(-1, size)
    first = bins.argmax(axis=1).clip(max=NO_CROSSING - 1)
    return np.where(bins.any(axis=1), first, NO_CROSSING).astype(np.uint8)


def spectrogram(
    audio: Tensor,
    sample_rate: int,
    columns: int,
    rows: int,
    lowest: float = LOWEST_HZ,
    highest: float = math.inf,
) -> Tensor:
    """Level of [A, N] over time and frequency, [rows, columns] in dB.

    Rows are spaced logarithmically from `highest` Hz, at most half the sample rate (top), to
    `lowest`. 0 dB is a sine at full scale; nothing is below -96 dB. Powers are averaged over
    channels and over the windows that share a column, and added over the bins that share a row.
    """
    length = audio.shape[-1]
    hop = min(max(length // columns, _SMALLEST_HOP), _WINDOW)
    window = torch.hann_window(_WINDOW, device=audio.device)
    room = (_WINDOW // 2, _WINDOW // 2 + max(0, _WINDOW - length))
    power = audio.new_zeros(0)
    for channel in audio:  # one after the other: half the memory
        padded = F.pad(channel.float(), room)
        bins = torch.stft(padded, _WINDOW, hop, window=window, center=False, return_complex=True)
        part = F.adaptive_avg_pool1d(bins.abs().square()[None], columns)[0]
        power = part if power.numel() == 0 else power + part
    power = power / len(audio) * (2 / window.sum()) ** 2
    half = sample_rate / 2
    edges = row_edges(min(highest, half), rows, lowest) / half
    return (10 * _log_rows(power, edges).clamp(min=1e-12).log10()).clamp(min=FLOOR_DB)


def _log_rows(power: Tensor, edges: Tensor) -> Tensor:
    """Power [bins, W] between edges [rows + 1] (1 = the last bin), [rows, W], as they come."""
    edges = edges.to(power.device) * (len(power) - 1) + 0.5
    sums = F.pad(power.cumsum(0), (0, 0, 1, 0))  # sums[i] = power of all bins below i
    edges = edges.clamp(0, len(power))
    below = edges.floor().long().clamp(max=len(power) - 1)
    at = torch.lerp(sums[below], sums[below + 1], (edges - below)[:, None].to(power))
    width = edges.diff()[:, None].abs().clamp(min=1e-6, max=_TONE_BINS)
    return (at[:-1] - at[1:]).clamp(min=0) / width.to(power)


def row_edges(top: float, rows: int, lowest: float = LOWEST_HZ) -> Tensor:
    """Frequencies in Hz between which the rows of a spectrogram lie, [rows + 1], highest first."""
    lowest = min(lowest, top / 2)
    return top * (lowest / top) ** torch.linspace(0, 1, rows + 1)


def latent_levels(latent: Tensor, rows: int, columns: int) -> Tensor:
    """Energy of latent channels [C, V] over time, [rows, columns] in 0..1.

    Neighbouring channels share a row. It shows where a piece is busy, changes or ends, not pitch:
    the channels have no order in frequency.
    """
    energy = F.adaptive_avg_pool2d(latent.float().square()[None], (rows, columns))[0].sqrt()
    return (energy / (2 * energy.mean()).clamp(min=1e-6)).clamp(0, 1)
