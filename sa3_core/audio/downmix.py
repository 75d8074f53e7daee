"""More than two channels mixed down to stereo by the broadcasters' coefficients.

A audio channels, N samples. Channels have FFmpeg's names: FL front left, FC centre, LFE bass
effects, BL back left, SL side left, BC back centre, and so on.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import AudioError

# What files of so many channels are taken for, and written as, where nothing says it: FFmpeg's
# names of the layout and of its channels.
LAYOUTS = {
    1: ("mono", "FC"),
    2: ("stereo", "FL FR"),
    3: ("3.0", "FL FR FC"),
    4: ("quad", "FL FR BL BR"),
    5: ("5.0", "FL FR FC BL BR"),
    6: ("5.1", "FL FR FC LFE BL BR"),
    7: ("6.1", "FL FR FC LFE BC SL SR"),
    8: ("7.1", "FL FR FC LFE BL BR SL SR"),
}
_SIDES = "BL BR SL SR TFL TFR TBL TBR TSL TSR BFL BFR"  # behind, above and below: 3 dB lower
_FRONTS = "FL FR FLC FRC WL WR DL DR"
_REARS = "BC TC TFC TBC BFC"  # in the middle, but not in front
_MINUS_3_DB = math.sqrt(0.5)


def _gains() -> dict[str, tuple[float, float]]:
    """What each channel gives to left and right."""
    middle = {"FC": _MINUS_3_DB, "LFE": 0.0, "LFE2": 0.0, **dict.fromkeys(_REARS.split(), 0.5)}
    gains = {name: (gain, gain) for name, gain in middle.items()}
    for names, gain in ((_FRONTS, 1.0), (_SIDES, _MINUS_3_DB)):
        for name in names.split():
            left = name.startswith(("FL", "DL")) or name.endswith("L")
            gains[name] = (gain, 0.0) if left else (0.0, gain)
    return gains


_GAINS = _gains()


def to_stereo(audio: Tensor, layout: Sequence[str] = ()) -> tuple[Tensor, str]:
    """Mix more than two channels down to left and right; one and two are left as they are.

    The fronts keep their level, centre and surrounds come 3 dB lower, a channel in the middle
    behind goes to both sides at half, and LFE is left out. An item whose sum is beyond full scale,
    though none of its channels is, is turned down to full scale as a whole.

    Args:
        audio: [B, A, N] or [A, N] floating point.
        layout: names of the channels; none, or names that nobody knows = what files of so many
            channels are usually.

    Returns:
        The audio with at most two channels, and a sentence that says what was done ("" = nothing).

    Raises:
        AudioError: more channels than any usual layout has, and no names of them.

    Source: ITU-R BS.775-4, annex 4 (downward mixing, 2/0 format).
    """
    channels = audio.shape[-2]
    if channels <= 2:
        return audio, ""
    names, assumed = _names(channels, layout)
    mixed = audio.new_zeros(*audio.shape[:-2], 2, audio.shape[-1])
    for name, channel in zip(names, audio.unbind(-2), strict=True):
        mixed += torch.tensor(_GAINS[name]).to(audio)[:, None] * channel[..., None, :]
    full = audio.abs().amax((-2, -1), keepdim=True).clamp(min=1.0)
    gain = full / mixed.abs().amax((-2, -1), keepdim=True).clamp(min=1e-30)
    text = (
        f"The {channels} channels ({' '.join(names)}{', assumed' if assumed else ''}) were mixed "
        "down to stereo: centre and surrounds at -3 dB, no LFE"
    )
    least = float(gain.min())
    if least < 1:
        mixed = mixed * gain.clamp(max=1.0)
        text += f"; turned down by {-20 * math.log10(least):.1f} dB to stay within full scale"
    return mixed, f"{text}."


def _names(channels: int, layout: Sequence[str]) -> tuple[list[str], bool]:
    """Names of the channels, and whether they were assumed by their number."""
    if len(layout) == channels and all(name in _GAINS for name in layout):
        return list(layout), False
    if channels not in LAYOUTS:
        raise AudioError(
            f"The audio has {channels} channels, and no usual layout has so many (up to "
            f"{max(LAYOUTS)}). Mix it down to two channels first."
        )
    return LAYOUTS[channels][1].split(), True
