"""JSON as files of ours have it: no key twice, no numbers that are none, not nested without end."""

import json
import math
from typing import Any

from ..checks import shown


def parse_json(text: str | bytes) -> Any:
    """Parse strict JSON; a byte-order mark in front is no fault.

    Raises:
        ValueError: naming what is wrong.
    """
    try:
        plain = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        return json.loads(plain, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys all differ, or ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{shown(twice)} is in it twice")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = unique_keys(pairs)
    for key, value in found.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{shown(key)} is {value}, which is no number in JSON")
    return found
