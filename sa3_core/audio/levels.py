"""How loud a sound is saved: brought to a loudness, its peaks left, normalised or limited."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..checks import check_number, check_one_of
from ..errors import InputError
from .loudness import CEILING, gain_to, integrated, measure, to_db, true_peak
from .waveform import as_batch, peak

PEAKS = ("auto", "off", "normalise", "limit")
LOWEST_CEILING = -40.0  # dBTP
_LOOK_AHEAD = 0.005  # seconds in which a limiter's gain goes down before a peak and up after it


@dataclass(frozen=True)
class Levels:
    """What becomes of the level of each sound that is saved.

    Attributes:
        lufs: loudness that it is brought to; 0 = as it is.
        peaks: `auto`: turned down as a whole to full scale where it is above; `off`: left, and
            clipped where the format must; `normalise`: its true peak is brought to `ceiling`;
            `limit`: only what is above `ceiling` is turned down, softly.
        ceiling: true peak in dBTP, for `normalise` and `limit`.
    """

    lufs: float = 0.0
    peaks: str = PEAKS[0]
    ceiling: float = CEILING

    def checked(self) -> "Levels":
        """Itself, once its values are possible.

        Raises:
            InputError: a value out of range, or loudness and normalised peaks at once.
        """
        check_one_of("peaks", self.peaks, PEAKS)
        check_number("ceiling_dbtp", self.ceiling, LOWEST_CEILING, 0.0)
        if self.lufs and self.peaks == "normalise":
            raise InputError(
                "is 'normalise', but a loudness is given, too, and both set the level. Choose "
                "'limit' with the loudness, or leave the loudness at 0.",
                "peaks",
            )
        return self


def set_levels(
    audio: Tensor, sample_rate: int, levels: Levels, clips: bool
) -> tuple[Tensor, list[str]]:
    """Bring a sound to its levels.

    Args:
        audio: [A, N].
        sample_rate: in Hz.
        levels: checked.
        clips: whether the file, or whatever plays it, ends at full scale.

    Returns:
        [A, N] and what was done, as parts of a sentence. Silence is left as it is.
    """
    audio = as_batch(audio)[0]
    if not bool(audio.any()):
        return audio, ["silent: left as it is"] if levels.lufs else []
    said: list[str] = []
    if levels.lufs:
        audio, text = _at_loudness(audio, sample_rate, levels)
        said.append(text)
    if levels.peaks == "normalise":
        gain = levels.ceiling - to_db(true_peak(audio, sample_rate))
        return audio * 10 ** (gain / 20), [
            *said,
            f"true peak {levels.ceiling:g} dB ({gain:+.1f} dB)",
        ]
    if levels.peaks == "limit":
        limited, most = limit(audio, sample_rate, levels.ceiling)
        if most > 0:
            said.append(f"limited to {levels.ceiling:g} dBTP, by {most:.1f} dB at most")
        if levels.lufs and most > 0:
            said.append(f"{integrated(limited, sample_rate):.1f} LUFS then")
        return limited, said
    if levels.peaks == "auto" and clips and peak(audio) > 1:
        gain = -to_db(peak(audio))
        return (audio / peak(audio)).clamp(-1, 1), [
            *said,
            f"turned down by {-gain:.1f} dB to full scale",
        ]
    return audio, said


def _at_loudness(audio: Tensor, sample_rate: int, levels: Levels) -> tuple[Tensor, str]:
    """[A, N] at the loudness asked for; without a limiter never above the usual ceiling."""
    before = measure(audio, sample_rate)
    if not math.isfinite(before.lufs):
        return audio, "too quiet to measure: left as it is"
    gain, held = gain_to(before, levels.lufs)
    if levels.peaks == "limit":
        gain, held = 10 ** ((levels.lufs - before.lufs) / 20), False
    text = f"{before.lufs + to_db(gain):.1f} LUFS ({to_db(gain):+.1f} dB)"
    if held:
        text += f"; {levels.lufs:g} LUFS would have peaked above {CEILING:g} dBTP"
    return audio * gain, text


def limit(audio: Tensor, sample_rate: int, ceiling: float) -> tuple[Tensor, float]:
    """Turn down what is above a true peak, softly and in all channels alike.

    The gain falls within 5 ms before a peak and rises as slowly after it, so that nothing is
    clipped; what lies between the samples is brought below the ceiling by the last tenths of a dB.

    Args:
        audio: [A, N] float32.
        sample_rate: in Hz.
        ceiling: dBTP.

    Returns:
        [A, N] float32, and the largest reduction in dB; 0 = the audio was below and is untouched.
    """
    from scipy.ndimage import maximum_filter1d, uniform_filter1d  # late: slow to import

    top = 10 ** (ceiling / 20)
    if true_peak(audio, sample_rate) <= top:
        return audio, 0.0
    half = max(1, round(_LOOK_AHEAD * sample_rate))
    over = np.maximum(audio.abs().amax(0).double().numpy() / top, 1.0)
    gain = 1 / maximum_filter1d(over, 2 * half + 1, mode="nearest")
    for _ in range(2):  # twice a mean over half the window stays inside it
        gain = uniform_filter1d(gain, half | 1, mode="nearest")
    limited = audio * torch.from_numpy(gain).float()
    rest = max(1.0, true_peak(limited, sample_rate) / top)
    return limited / rest, to_db(rest / float(gain.min()))
