"""From regions in seconds to masks over latent frames.

keep = 1 means given, 0 means to be made. B batch, C latent channels, T latent frames.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import RegionError
from ..geometry import HOP, SAMPLE_RATE, effective_frames, frames_covering, samples_of
from ..registry import Registry
from .regions import Region, merge_regions

_SLOP = 1e-6  # samples; a float product that misses a whole sample by less has hit it

# (start s, end s) -> first frame to be made, first frame after them
MaskRule = Callable[[float, float], tuple[int, int]]

MASK_RULES: Registry[MaskRule] = Registry("mask rule")


@MASK_RULES.add("cover")
def cover_frames(start: float, end: float) -> tuple[int, int]:
    """Every frame that a marked sample touches: nothing the user marked stays as it was."""
    first = math.floor(start * SAMPLE_RATE + _SLOP)
    return first // HOP, frames_covering(math.ceil(end * SAMPLE_RATE - _SLOP))


@MASK_RULES.add("upstream")
def upstream_frames(start: float, end: float) -> tuple[int, int]:
    """Every frame whose first sample is marked, as the reference's nearest-neighbour mask does.

    A region shorter than a frame may so mark none at all.

    Source: stable-audio-3:stable_audio_3/model.py (inpainting mask in samples, then nearest).
    """
    return frames_covering(samples_of(start)), frames_covering(samples_of(end))


def keep_mask(
    regions: Sequence[Region], frames: int, seconds: float, rule: str = "cover"
) -> Tensor:
    """Mark each latent frame as given (1) or to be made (0).

    Frames past the piece are headroom and are always made, as in training.

    Args:
        regions: spans to make, in seconds of the piece, any order; they may overlap. None at all
            gives the mask of a piece that is wholly given.
        frames: T, length of the padded latent.
        seconds: duration of the piece.
        rule: a name of MASK_RULES.

    Returns:
        [1, 1, T] float32 on the CPU.

    Raises:
        RegionError: a region that is empty or starts outside the piece, or more regions than
            the piece has frames.

    Source: stable-audio-3:stable_audio_3/model.py (inpainting mask).
    """
    span = MASK_RULES[rule]
    length = min(effective_frames(seconds), frames)
    if len(regions) > length:
        raise RegionError(
            f"{len(regions)} regions were given for a piece of {length} latent frames "
            f"({seconds:g} s). Give fewer, or join neighbouring ones."
        )
    keep = torch.ones(1, 1, frames)
    for start, end in regions:
        if not (math.isfinite(end) and 0 <= start < min(end, seconds)):
            raise RegionError(
                f"Region {start:g}-{end:g} s must not be empty and must start within "
                f"0-{seconds:g} s."
            )
        first, last = span(start, end)
        keep[..., first:last] = 0
    keep[..., length:] = 0
    return keep


def continuation_mask(
    source_samples: int,
    frames: int,
    seconds: float,
    rule: str = "cover",
    lead_samples: int = 0,
) -> Tensor:
    """Mark what a source fills as given, all after it and before it as to be made.

    With `cover` only frames that the source fills wholly are given, with `upstream` also the last
    one that it fills in part.

    Args:
        source_samples: length of the source at 44.1 kHz.
        frames: T, length of the padded latent.
        seconds: duration of the longer piece.
        rule: a name of MASK_RULES.
        lead_samples: samples at 44.1 kHz to be made before the source starts.

    Returns:
        [1, 1, T] float32 on the CPU.

    Raises:
        RegionError: the source does not fill one frame.
    """
    end = lead_samples + source_samples
    regions = [Region(0.0, lead_samples / SAMPLE_RATE)] if lead_samples else []
    if end < samples_of(seconds) - 1:  # seconds that were added up may lose a sample
        regions.append(Region(end / SAMPLE_RATE, seconds))
    keep = keep_mask(regions, frames, seconds, rule)
    if source_samples < HOP or not keep.any():
        raise RegionError(
            f"The audio has {source_samples} samples at {SAMPLE_RATE} Hz; to be continued it must "
            f"fill one latent frame: {2 * HOP} samples ({2 * HOP / SAMPLE_RATE:.2f} s) always do. "
            "Use a longer source."
        )
    return keep


def masked_spans(keep: Tensor, seconds: float) -> list[Region]:
    """What a mask really makes anew after rounding to frames, for display.

    Args:
        keep: [T] or any shape that holds one row of T frames.
        seconds: duration of the piece; headroom past it is left out.

    Returns:
        Sorted spans in seconds. Given back to `keep_mask` they make the same mask.
    """
    made = (keep.flatten() < 0.5).tolist()[: effective_frames(seconds)]
    spans = [
        Region(i * HOP / SAMPLE_RATE, min((i + 1) * HOP / SAMPLE_RATE, seconds))
        for i, make in enumerate(made)
        if make
    ]
    return merge_regions(spans)


def describe_mask(
    keep: Tensor,
    asked: Sequence[Sequence[Region]],
    seconds: Sequence[float],
    starts: Sequence[float] = (),
) -> list[str]:
    """Say what is really made anew after rounding to latent frames, one line per item.

    Args:
        keep: [B, 1, T].
        asked: the regions asked for, per item.
        seconds: duration of each item.
        starts: second of the source at which each item starts; none = at its start.
    """
    lines = []
    for item, (row, regions, duration) in enumerate(zip(keep, asked, seconds, strict=True)):
        start = starts[item] if starts else 0.0
        name = f"item {item + 1}: " if len(seconds) > 1 else ""
        spans = masked_spans(row, duration)
        total = effective_frames(duration)
        made = total - int(row[0, :total].sum())
        if spans:
            lines.append(
                f"{name}made anew {_spans_text(spans, start)} s of {_length_text(start, duration)} "
                f"s ({made} of {total} frames); asked for {_spans_text(regions, start)} s"
            )
        else:
            lines.append(
                f"{name}nothing is made anew: {_spans_text(regions, start)} s holds the start of "
                "no latent frame. Use the rule `cover`, or mark more."
            )
    return lines


def _spans_text(regions: Sequence[Region], at: float) -> str:
    return ", ".join(f"{start + at:.3f}-{end + at:.3f}" for start, end in merge_regions(regions))


def _length_text(start: float, duration: float) -> str:
    return f"{start:.3f}-{start + duration:.3f}" if start else f"{duration:g}"
