"""Checks of values that users give, one wording each: what was given and what is allowed.

Every check raises InputError carrying the value's name as the core has it, so that a face can show
its own (`InputError.named`).
"""

import math
import operator
import re
from collections.abc import Collection
from typing import SupportsFloat, SupportsIndex

import torch
from torch import Tensor

from .errors import InputError

MAX_SEED = 2**64 - 1  # what ComfyUI's widgets hold
MAX_ITEMS = 1000  # of a batch, and entries of a list that is given as text
MAX_CHARACTERS = 100_000  # of a text; reading one takes memory by its length
MAX_LATENT_BYTES = 4e9  # of one latent: 950 items as long as the longest model's
MAX_AUDIO_BYTES = 8e9  # of all items of one AUDIO: 6.3 h of stereo at 44.1 kHz
_SHOWN = 42  # characters of a wrong text that an error repeats
_SHOWN_VALUE = 80  # of any other value


def check_number(
    name: str, value: SupportsFloat, low: float, high: float = math.inf, note: str = ""
) -> float:
    """Return a finite number in [low, high] as a float or raise InputError.

    Args:
        name: of the value.
        value: what was given.
        low, high: allowed range, both ends included.
        note: what special values mean, put after the range.
    """
    number = _float(value)
    if not (math.isfinite(number) and low <= number <= high):
        allowed = f"{low:g} or more" if math.isinf(high) else f"between {low:g} and {high:g}"
        raise InputError(f"is {shown(value)}; it must be a number, {allowed}{note}.", name)
    return number


def check_positive(name: str, value: SupportsFloat) -> float:
    """Return a finite number above 0 as a float or raise InputError."""
    number = _float(value)
    if not (math.isfinite(number) and number > 0):
        raise InputError(f"is {shown(value)}; it must be a number above 0.", name)
    return number


def check_whole(
    name: str,
    value: SupportsIndex,
    low: int | None = None,
    high: int | None = None,
    note: str = "",
) -> int:
    """Return a whole number in [low, high] as an int or raise InputError.

    Args:
        name: of the value.
        value: what was given; True and False are no numbers.
        low, high: allowed range, both ends included; None = no bound.
        note: what special values mean, put after the range.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    too_low = number is not None and low is not None and number < low
    too_high = number is not None and high is not None and number > high
    if number is None or too_low or too_high:
        allowed = "" if low is None else f" of {low} or more"
        allowed = allowed if high is None else f" from {low} to {high}"
        raise InputError(f"is {shown(value)}; it must be a whole number{allowed}{note}.", name)
    return number


def check_seed(seed: SupportsIndex) -> int:
    """Return a seed as an int or raise InputError."""
    try:
        number = -1 if isinstance(seed, bool | str) else operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number <= MAX_SEED:
        raise _no_seed(seed)
    return number


def read_seed(text: str) -> int:
    """Return the seed that a text says or raise InputError."""
    plain = text.strip()
    if not re.fullmatch(r"[0-9]{1,20}", plain) or int(plain) > MAX_SEED:
        raise _no_seed(plain)
    return int(plain)


def _no_seed(given: object) -> InputError:
    return InputError(f"{shown(given)} is no seed; a seed is a whole number from 0 to {MAX_SEED}.")


def later_seed(seed: int, by: int) -> int:
    """A seed counted up; after the largest one come 0, 1, 2 ..."""
    return (seed + by) % (MAX_SEED + 1)


def check_level(value: SupportsFloat, name: str = "noise_level") -> float:
    """Return the noise level to start from as a float or raise InputError."""
    return check_number(name, value, 0.0, 1.0, ": 0 is the source as it is, 1 all new")


def check_interval(name: str, interval: tuple[float, float]) -> tuple[float, float]:
    """Return the lowest and the highest noise level of an interval or raise InputError."""
    low, high = (_float(bound) for bound in interval)
    if not 0 <= low <= high <= 1:
        raise InputError(
            f"is {interval[0]!r} to {interval[1]!r}; it must lie within 0 to 1 and go up "
            "(noise level: 1 = noise, 0 = data).",
            name,
        )
    return low, high


def level_within(t: Tensor, interval: tuple[float, float]) -> Tensor:
    """Bool, shaped like `t`: whether noise levels lie in an interval, both ends included."""
    # Bounds rounded as t was, so that a float32 0.7 lies within 0 to 0.7; on the CPU: a card's
    # tensor would have to be sent there.
    low, high = torch.tensor(interval, dtype=t.dtype).tolist()
    return (t >= low) & (t <= high)


def check_seconds(
    seconds: SupportsFloat, maximum: float, name: str = "seconds", hint: str = ""
) -> float:
    """Return a duration as a float or raise InputError naming the allowed range.

    Args:
        seconds: what was given.
        maximum: of the model.
        name: of the value.
        hint: what else can be done about a duration that is too long, as sentences.
    """
    value = _float(seconds)
    if not (math.isfinite(value) and 0 < value <= maximum):
        raise InputError(
            f"is {seconds!r}; it must be more than 0 and at most {maximum:g} "
            "(the model's maximum). Choose a shorter piece or a variant with a longer limit."
            f"{' ' + hint if hint and value > maximum else ''}",
            name,
        )
    return value


def check_length(name: str, text: str) -> str:
    """Return a text of at most MAX_CHARACTERS or raise InputError, before anything reads it."""
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"has {len(text)} characters; at most {MAX_CHARACTERS} are read. Shorten it.", name
        )
    return text


def check_entries(name: str, count: int) -> None:
    """Refuse a list of more than MAX_ITEMS entries."""
    if count > MAX_ITEMS:
        raise InputError(
            f"holds more than {MAX_ITEMS} entries, the most that are read at once. Give fewer.",
            name,
        )


def check_size(what: str, size: float, most: float) -> None:
    """Refuse to make what takes more memory than anything sensible does.

    Args:
        what: names it as a sentence's subject, with its length ("3 items of up to 20 s").
        size: bytes that it would take.
        most: bytes that are allowed.
    """
    if size > most:
        raise InputError(
            f"{what} would take {size / 1e9:.1f} GB; at most {most / 1e9:g} GB are made at once. "
            "Choose fewer items or shorter ones."
        )


def shortened(text: str) -> str:
    """A text that an error repeats: in quotes, and no longer than a line."""
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...")


def shown(value: object) -> str:
    """A value of any kind that an error repeats, no longer than a line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # whole numbers of thousands of digits
        return f"a huge {type(value).__name__}"
    return text if len(text) <= _SHOWN_VALUE else f"{text[: _SHOWN_VALUE - 3]}..."


def check_one_of(name: str, value: str, allowed: Collection[str]) -> str:
    """Return a name that is one of those allowed or raise InputError."""
    if value not in allowed:
        raise InputError(f"is {shown(value)}; it must be one of {', '.join(allowed)}.", name)
    return value


def check_count(what: str, given: int, items: int) -> None:
    """Refuse a list that does not have one entry per item."""
    if given != items:
        raise InputError(f"{given} {what} were given for {items} items; give {items}.")


def broadcast(count: int, batch: int, what: str) -> list[int]:
    """Indices that bring `count` entries to `batch` items: equal, or one for all.

    Raises:
        InputError: naming both counts.
    """
    if count == batch:
        return list(range(batch))
    if count == 1:
        return [0] * batch
    raise InputError(
        f"{count} {what} for {batch} items: give one for all items or exactly one per item."
    )


def unsound_items(values: Tensor) -> list[int]:
    """Numbers, from 1, of the items of [B, ...] that hold NaN or infinite values."""
    sound = torch.isfinite(values).flatten(1).all(dim=1)
    return [item + 1 for item, good in enumerate(sound.tolist()) if not good]


def check_sound(values: Tensor, what: str, advice: str) -> None:
    """Refuse a batch [B, ...] with NaN or infinite values in it, naming the items.

    Args:
        values: of any dtype.
        what: names them as a sentence's subject, in the singular ("The latent").
        advice: the likely cause and what to do, as sentences.
    """
    bad = unsound_items(values)
    if bad:
        items = f"item {bad[0]}" if len(bad) == 1 else f"items {', '.join(map(str, bad))}"
        raise InputError(f"{what} has NaN or infinite values in {items} of {len(values)}. {advice}")


def _float(value: SupportsFloat) -> float:
    """A number as a float; NaN for what is none, text too."""
    try:
        return math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return math.nan
