"""Keep what was kept: the source's own samples outside the regions that were made anew.

A model re-draws also what it was given, through the autoencoder. Here the source is laid back
over the result, at the source's own sample rate, channels and level, so that outside the regions
the output equals it bit for bit. All blending happens inside the regions:

- where the source goes on behind a seam, a crossfade of equal power leads from one to the other,
  whether the two are alike there or not;
- where it begins or ends there, nothing can be faded: the jump between its edge sample and the
  made side is added to the made side and faded to zero.

Times are seconds of the source, unrounded. A region may lie before 0 or past the source's end;
the result starts at 0 or at the earliest region. B batch, A channels, N samples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio.waveform import resample
from ..checks import broadcast
from ..errors import AudioError
from ..geometry import HOP, SAMPLE_RATE
from .paste_plan import (
    CROSSFADE_SECONDS,
    Layout,
    Seam,
    fade_samples,
    plan_layout,
    rise,
    seams,
)
from .regions import Region

_EASE_SECONDS = 1.0  # over which a seam's gain goes back to the made side's own level
_LEVEL_SECONDS = 0.2  # of kept audio that the levels are compared over
_LEVEL_MIN_SECONDS = 0.05
_LEVEL_LIMIT_DB = 6.0
_ROUNDING_DB = 1e-5  # a millionth, so that the product does not round to above the limit
_EDGE = 64  # samples, more than the resampling filter reaches
_SILENCE = 1e-3  # RMS below which a level says nothing


@dataclass(frozen=True)
class Source:
    """What was given.

    Attributes:
        waveform: [B or 1, A, N] floating point; never written to.
        sample_rate: in Hz.
        regions: one list of regions for all items, or one per item.
        first_sample: of a longer source that the waveform is a part of; regions are in seconds of
            the longer one.
    """

    waveform: Tensor
    sample_rate: int
    regions: Sequence[Sequence[Region]]
    first_sample: int = 0


def paste_back(
    generated: Tensor,
    source: Source,
    crossfade: float = CROSSFADE_SECONDS,
    lengths: Sequence[int] | None = None,
) -> tuple[Tensor, list[int]]:
    """Lay the source over the result wherever it was to be kept.

    At each seam the made side is brought to the source's level: both hold the kept audio beside
    the seam (the model re-draws it), so their ratio there is what the model changed in level, and
    not what the music does. The gain is limited to 6 dB, holds over the crossfade and is eased
    back to none within a second or half the region; it is 0 dB where less than 50 ms can be
    compared or either side is silent, and lifts nothing over full scale, or over the louder of
    the two sides where that is beyond it.

    Args:
        generated: [B, A', N'] decoded audio at 44.1 kHz, mono or stereo.
        source: what was given, with the user's regions.
        crossfade: seconds; shortened where a region is narrower than two of them.
        lengths: own length N'_b of each item at 44.1 kHz; None = all of N'.

    Returns:
        [B, A, N] in the source's dtype, sample rate and channel count, on its device, zeros past
        an item's own end, and the own length of each item.

    Raises:
        InputError: counts that differ, or a crossfade out of range.
        AudioError: a source of more than two channels, or without samples.
    """
    batch = generated.shape[0]
    items, channels, samples = source.waveform.shape
    broadcast(items, batch, "source items")
    region_rows = broadcast(len(source.regions), batch, "region lists")
    if channels > 2 or samples == 0:
        raise AudioError(
            f"The source has {channels} channels and {samples} samples; to be pasted back it "
            "needs 1 or 2 channels and some samples."
        )
    fade = fade_samples(crossfade, source.sample_rate)
    own = list(lengths) if lengths is not None else [generated.shape[-1]] * batch
    waveform = source.waveform.expand(batch, -1, -1)
    regions = [source.regions[row] for row in region_rows]
    results = []
    for item in range(batch):
        made = _to_source(generated[item, :, : own[item]], channels, source)
        layout = plan_layout(
            regions[item], samples, source.sample_rate, own[item], source.first_sample
        )
        results.append(_paste_item(made, waveform[item], layout, fade))
    longest = max(result.shape[-1] for result in results)
    padded = [F.pad(result, (0, longest - result.shape[-1])) for result in results]
    return torch.stack(padded), [result.shape[-1] for result in results]


def _to_source(made: Tensor, channels: int, source: Source) -> Tensor:
    """Bring [A', N'] at 44.1 kHz to the source's rate, channels, dtype and device."""
    made = _resample_held(made.float(), source.sample_rate).to(source.waveform)
    if channels == 1:
        return made.mean(dim=0, keepdim=True)
    return made.expand(channels, -1)


def _resample_held(made: Tensor, rate: int) -> Tensor:
    """Resample [A, N'] from 44.1 kHz as if its edge samples went on: no ringing at the ends."""
    if rate == SAMPLE_RATE:
        return made
    unit = SAMPLE_RATE // math.gcd(SAMPLE_RATE, rate)  # a whole number of samples at both rates
    pad = unit * math.ceil(_EDGE / unit)
    held = F.pad(made[None], (pad, pad), mode="replicate")[0]
    cut, length = pad * rate // SAMPLE_RATE, math.ceil(made.shape[-1] * rate / SAMPLE_RATE)
    return resample(held, SAMPLE_RATE, rate)[:, cut : cut + length]


def _paste_item(made: Tensor, waveform: Tensor, layout: Layout, fade: int) -> Tensor:
    """Blend one item: made [A, N'] and waveform [A, N] -> [A, layout.length]."""
    missing = layout.length - made.shape[-1]
    if missing > 0:  # a sample or two, lost where seconds were rounded
        made = F.pad(made[None], (0, missing), mode="replicate")[0]
    start, end = layout.source
    out = made.new_zeros(made.shape[0], layout.length)
    out[:, start:end] = waveform[:, : end - start]
    kept = out.clone()
    loudest = max(1.0, float(kept.abs().max()))
    for index, (first, last) in enumerate(layout.spans):
        left, right = seams(layout, index, fade)
        gains = _seam_gains(kept, made, layout, index)
        part, under = made[:, first:last], kept[:, first:last]
        decibels = _gain_curve((left, right), gains, last - first, layout.rate)
        part = part * _below(max(loudest, float(part.abs().max())), part, decibels).to(made)
        part = _join(part, under, left, kept[:, max(first - 1, 0)])
        edge = kept[:, min(last, layout.length - 1)]
        out[:, first:last] = _join(part.flip(-1), under.flip(-1), right, edge).flip(-1)
    return out


def _join(made: Tensor, under: Tensor, seam: Seam, edge: Tensor) -> Tensor:
    """Join the start of `made` [A, n] to what lies before it.

    `under` [A, n] is the kept signal at the same place, `edge` [A] its sample before the seam.
    """
    if seam.fade == 0:
        return made
    head, rest = made[:, : seam.fade], made[:, seam.fade :]
    up = rise(seam.fade).to(made)
    if seam.kind == "cross":
        tail = under[:, : seam.fade]
        alike = _likeness(tail, head)
        head = (tail * up.flip(0) + head * up) / (1 + 2 * alike * up * up.flip(0)).sqrt()
    else:
        falling = torch.cos(torch.arange(seam.fade) * (math.pi / 2 / seam.fade)).square()
        head = head + (edge - head[:, 0])[:, None] * falling.to(made)
    return torch.cat([head, rest], dim=-1)


def _likeness(one: Tensor, other: Tensor) -> float:
    """Correlation of two signals [A, n], from 0 to 1; 0 where either is silent.

    Sine and cosine add up to equal power only of what has nothing in common; what is the same on
    both sides would swell by 3 dB.
    """
    one, other = one.double(), other.double()
    power = float(one.norm() * other.norm())
    return max(0.0, float((one * other).sum()) / power) if power > 0 else 0.0


def _seam_gains(kept: Tensor, made: Tensor, layout: Layout, index: int) -> tuple[float, float]:
    """Gains in dB that bring the made side to the source's level at both seams of a span.

    Measured a latent frame away from made spans: up to there the model's output is new.
    """
    skip = math.ceil(HOP * layout.rate / SAMPLE_RATE)
    window = round(_LEVEL_SECONDS * layout.rate)
    first, last = layout.spans[index]
    low, high = layout.source
    if index > 0:
        low = max(low, layout.spans[index - 1][1] + skip)
    if index + 1 < len(layout.spans):
        high = min(high, layout.spans[index + 1][0] - skip)
    before = (max(low, first - skip - window), min(high, first - skip))
    after = (max(low, last + skip), min(high, last + skip + window))
    return (
        _level_gain(kept, made, before, layout.rate),
        _level_gain(kept, made, after, layout.rate),
    )


def _level_gain(kept: Tensor, made: Tensor, span: tuple[int, int], rate: int) -> float:
    """Gain in dB from the level of `made` to that of `kept` over a span, limited; 0 if unknown."""
    first, last = span
    if last - first < _LEVEL_MIN_SECONDS * rate:
        return 0.0
    wanted, given = (float(x[:, first:last].double().square().mean().sqrt()) for x in (kept, made))
    if min(wanted, given) < _SILENCE:
        return 0.0
    gain = 20 * math.log10(wanted / given)
    return max(-_LEVEL_LIMIT_DB, min(_LEVEL_LIMIT_DB, gain))


def _gain_curve(
    joints: tuple[Seam, Seam], gains: tuple[float, float], length: int, rate: int
) -> Tensor:
    """dB over a span, (length,) float64: each seam's gain, eased to 0 away from it."""
    joined = sum(seam.kind != "open" for seam in joints)
    decibels = torch.zeros(length, dtype=torch.float64)
    for seam, gain, backwards in zip(joints, gains, (False, True), strict=True):
        if seam.kind == "open" or gain == 0:
            continue
        hold = seam.fade
        ease = min(round(_EASE_SECONDS * rate), length // max(joined, 1) - hold)
        curve = torch.zeros(length, dtype=torch.float64)
        curve[:hold] = 1.0
        if ease > 0:
            ramp = torch.cos(torch.arange(ease, dtype=torch.float64) * (math.pi / 2 / ease))
            curve[hold : hold + ease] = ramp.square()
        decibels += gain * (curve.flip(0) if backwards else curve)
    return decibels


def _below(highest: float, made: Tensor, decibels: Tensor) -> Tensor:
    """Factors for `made` [A, n] from a curve in dB [n], all of it lowered until nothing it lifts
    comes above `highest`, which `made` itself does not exceed."""
    room = 20 * torch.log10(highest / made.abs().amax(dim=0).double())
    room = (room - _ROUNDING_DB).clamp(min=0)
    lifted = decibels > room
    share = float((room[lifted] / decibels[lifted]).min()) if bool(lifted.any()) else 1.0
    return 10 ** (decibels * share / 20)
