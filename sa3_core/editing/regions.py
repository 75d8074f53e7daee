"""Times as people write them, and regions of a piece that are to be made anew.

All times are seconds as Python floats, as the user gave them; rounding to latent frames happens
in `masks.py`, rounding to samples in `paste_plan.py`.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..checks import check_entries, check_length, check_positive, shortened
from ..errors import InputError, RegionError

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_CLOCK = rf"(?:(?:[0-9]+:)?[0-9]+:)?{_NUMBER}"
_TIME = rf"-?(?:{_NUMBER}%|{_CLOCK})"
_SPAN = re.compile(rf"({_TIME})-({_TIME})")
_BARS = re.compile(rf"bars?(-?{_NUMBER})(?:-(-?{_NUMBER}))?")
_SHOWN = 40  # characters of a bad region that an error repeats


class Region(NamedTuple):
    """A span of time to be made anew, in seconds: start included, end not."""

    start: float
    end: float


def parse_time(text: str) -> float:
    """Seconds of `12.5`, `1:02.5` or `1:02:03`.

    Raises:
        InputError: anything else; also 60 or more behind a colon.
    """
    plain = text.strip()
    if re.fullmatch(_CLOCK, plain) is None:
        raise InputError(f"{shortened(plain)} is no time; write seconds (12.5) or m:ss (1:02.5).")
    try:
        return _clock_seconds(plain)
    except ValueError as error:
        raise InputError(f"{shortened(plain)} is no time: {error}.") from None


def parse_durations(text: str) -> list[float]:
    """Durations separated by commas, semicolons, spaces or new lines.

    Raises:
        InputError: an entry that is no time, or zero.
    """
    entries = [entry for entry in re.split(r"[\s,;]+", check_length("durations", text)) if entry]
    check_entries("durations", len(entries))
    decimal = re.search(r"(?<![\d,.:])\d+,\d+(?![\d,.:])", text)
    if decimal is not None:
        whole, part = decimal[0].split(",")
        raise InputError(
            f"durations: {decimal[0]!r} can be read in two ways; write {whole}.{part} for one "
            f"duration, or '{whole}, {part}' with a space for two."
        )
    try:
        values = [parse_time(entry) for entry in entries]
    except InputError as error:
        raise InputError(f"durations: {error}") from None
    if not all(0 < value < math.inf for value in values):
        raise InputError(
            f"durations {shortened(text)}: every duration must be more than 0 seconds."
        )
    return values


def parse_regions(
    text: str, duration: float, bpm: float | None = None, beats_per_bar: float = 4
) -> list[Region]:
    """Read regions as people write them.

    A region is `start-end`. A time is seconds (`4`, `16.5`), minutes and seconds (`0:16.5`), hours
    too (`1:02:03`) or a share of the duration (`90%`); each of the two stands for itself, so
    `4-100%` runs from 4 s to the end. `bar 5-9` runs from the start of bar 5 to the start of
    bar 9 and `bar 5` is that bar alone; bars count from 1. Regions are separated by commas,
    semicolons, spaces or new lines. Decimals are written with a point.

    Args:
        text: one region or more.
        duration: of the piece, in seconds.
        bpm: beats per minute, needed for bars.
        beats_per_bar: for bars.

    Returns:
        The regions in the order given, not merged. One that starts inside the piece may end past
        it: the piece then gets longer.

    Raises:
        RegionError: no region, or one that is unreadable, empty, reversed or starts outside the
            piece; names the region and the allowed range.
        InputError: duration, bpm or beats_per_bar out of range.
    """
    check_positive("duration", duration)
    check_length("regions", text)
    joined = re.sub(r" ?[-\u2013\u2014] ?", "-", " ".join(text.lower().split()))
    tokens = [token for token in re.split(r"[ ,;]", re.sub(r"(bars?) ", r"\1", joined)) if token]
    if not tokens:
        raise RegionError(
            f"No region was given. Write one or more, such as 4-8 or 90%-100%, within "
            f"0-{duration:g} s."
        )
    check_entries("regions", len(tokens))
    regions = []
    for token in tokens:
        if bars := _BARS.fullmatch(token):
            start, end = _read_bars(bars, token, bpm, beats_per_bar)
        elif span := _SPAN.fullmatch(token):
            start, end = (_read_time(part, token, duration) for part in span.groups())
        else:
            raise RegionError(
                f"Region {_show(token)} cannot be read. Write start-end within 0-{duration:g} s: "
                "4-8, 0:16.5-0:20, 90%-100% or bar 5-9, with a point for decimals."
            )
        regions.append(_checked(start, end, token, duration))
    return regions


def regions_from_list(pairs: Iterable[Sequence[float]], duration: float) -> list[Region]:
    """Check regions that other nodes give as (start, end) pairs in seconds.

    Raises:
        RegionError: as `parse_regions`, also for an entry that is no pair of numbers.
    """
    check_positive("duration", duration)
    regions = []
    for number, pair in enumerate(pairs, 1):
        check_entries("region_list", number)
        try:
            start, end = (float(value) for value in pair)
        except (TypeError, ValueError):
            raise RegionError(
                f"Region {_show(str(pair))} is no (start, end) pair of seconds."
            ) from None
        regions.append(_checked(start, end, f"{start:g}-{end:g}", duration))
    if not regions:
        raise RegionError("The list of regions is empty. Give one (start, end) pair or more.")
    return regions


def merge_regions(regions: Iterable[Region]) -> list[Region]:
    """Join regions that overlap or touch; the result is sorted."""
    merged: list[Region] = []
    for region in sorted(regions):
        if merged and region.start <= merged[-1].end:
            merged[-1] = Region(merged[-1].start, max(merged[-1].end, region.end))
        else:
            merged.append(region)
    return merged


def invert_regions(regions: Iterable[Region], duration: float) -> list[Region]:
    """Everything in 0-duration that the regions leave out.

    Raises:
        RegionError: they leave nothing out.
    """
    gaps, position = [], 0.0
    for start, end in merge_regions(regions):
        if start > position:
            gaps.append(Region(position, min(start, duration)))
        position = max(position, end)
    if position < duration:
        gaps.append(Region(position, duration))
    if not gaps:
        raise RegionError(
            f"The regions cover all of 0-{duration:g} s; inverted, nothing would be made anew. "
            "Mark less, or do not invert."
        )
    return gaps


def new_duration(regions: Iterable[Region], duration: float) -> float:
    """Duration of the piece after regions that run past its end have lengthened it."""
    return max([duration, *(region.end for region in regions)])


def bar_seconds(bars: float, bpm: float, beats_per_bar: float = 4) -> float:
    """Seconds that a number of bars lasts.

    Raises:
        InputError: bpm or beats_per_bar is not a positive number.
    """
    return bars * check_positive("beats_per_bar", beats_per_bar) * 60 / check_positive("bpm", bpm)


def _read_bars(
    match: re.Match[str], token: str, bpm: float | None, beats_per_bar: float
) -> tuple[float, float]:
    """Seconds of a `bar` region."""
    if bpm is None:
        raise RegionError(f"Region {_show(token)} counts bars, which needs the BPM. Set it.")
    first = float(match[1])
    last = first + 1 if match[2] is None else float(match[2])
    if first < 1:
        raise RegionError(f"Region {_show(token)} starts before bar 1, the first one.")
    return (
        bar_seconds(first - 1, bpm, beats_per_bar),
        bar_seconds(last - 1, bpm, beats_per_bar),
    )


def _read_time(part: str, token: str, duration: float) -> float:
    """Seconds of one time."""
    if part.endswith("%"):
        return duration * float(part[:-1]) / 100
    sign, digits = (-1.0, part[1:]) if part.startswith("-") else (1.0, part)
    try:
        return sign * _clock_seconds(digits)
    except ValueError as error:
        raise RegionError(f"Region {_show(token)} cannot be read: {error}.") from None


def _clock_seconds(digits: str) -> float:
    """Seconds of a text that `_CLOCK` matches; ValueError where it is no time of a clock."""
    values = [float(value) for value in digits.split(":")]
    if any(value >= 60 for value in values[1:]):
        raise ValueError("after a colon, minutes and seconds stay below 60")
    total = 0.0
    for value in values:
        total = total * 60 + value
    return total


def _checked(start: float, end: float, token: str, duration: float) -> Region:
    """A region that is not empty and starts inside the piece, or RegionError."""
    allowed = f"Regions start within 0-{duration:g} s and end after they start."
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RegionError(f"Region {_show(token)} is not made of finite numbers. {allowed}")
    if start < 0:
        raise RegionError(f"Region {_show(token)} starts before 0. {allowed}")
    if end == start:
        raise RegionError(f"Region {_show(token)} is empty. {allowed}")
    if end < start:
        raise RegionError(f"Region {_show(token)} is reversed. {allowed}")
    if start >= duration:
        raise RegionError(
            f"Region {_show(token)} starts at or after the end of the audio. {allowed} "
            "To add something after the end, continue the audio."
        )
    return Region(start, end)


def _show(token: str) -> str:
    """A region's text in quotes, shortened."""
    return repr(token if len(token) <= _SHOWN else token[: _SHOWN - 3] + "...")
