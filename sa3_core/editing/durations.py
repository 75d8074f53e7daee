"""Seeds as lists."""

import re

from ..errors import InputError


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
