"""Durations as people write them: seconds, m:ss; and seeds as lists."""

import re

from ..errors import InputError

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)")


def parse_time(text: str) -> float:
    """Seconds of `12.5`, `1:02.5` or `1:02:03`.

    Raises:
        InputError: anything else.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text.strip()!r} is no time; write seconds (12.5) or m:ss (1:02.5).")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


def parse_durations(text: str) -> list[float]:
    """Durations separated by commas, semicolons, spaces or new lines.

    Raises:
        InputError: an entry that is no time, or zero.
    """
    try:
        values = [parse_time(entry) for entry in re.split(r"[\s,;]+", text) if entry]
    except InputError as error:
        raise InputError(f"durations: {error}") from None
    if any(value <= 0 for value in values):
        raise InputError(f"durations {text!r}: every duration must be more than 0 seconds.")
    return values


def parse_seeds(text: str) -> list[int]:
    """Seeds such as `7, 9, 20-23` (a range counts both ends).

    Raises:
        InputError: an entry that is no seed, or a reversed or huge range.
    """
    seeds: list[int] = []
    for entry in re.split(r"[\s,;]+", text.strip()):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", entry)
        if match is None:
            raise InputError(f"seeds: {entry!r} is no seed; write e.g. 7, 9, 20-23.")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < first + 1000:
            raise InputError(f"seeds: the range {entry!r} must go up and hold at most 1000 seeds.")
        seeds.extend(range(first, last + 1))
    return seeds
