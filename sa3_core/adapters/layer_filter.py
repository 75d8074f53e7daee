"""Which layers a LoRA acts on, written by the user: `self_attn, layers[0-5], -to_out`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ..checks import check_entries, check_length, shortened
from ..errors import InputError

_RANGE = re.compile(r"\[\s*(\d+)\s*(?:-\s*(\d+)\s*)?\]")
_NAME = "layer_filter"
_EXCLUDES = "-!"  # in front of a term that leaves layers out
_SYNTAX = (
    "Write parts of layer names separated by commas or lines, number ranges as layers[0-5], "
    "and a leading - to leave layers out: self_attn, -layers[0-3]"
)


@dataclass(frozen=True)
class _Term:
    """One part of the text: literals with number ranges between them."""

    pattern: re.Pattern[str]
    ranges: tuple[tuple[int, int], ...]
    excludes: bool

    def found_in(self, name: str) -> bool:
        """True where the literals occur in `name` and every number lies in its range."""
        for hit in self.pattern.finditer(name):
            bounds = zip(hit.groups(), self.ranges, strict=True)
            if all(low <= int(number) <= high for number, (low, high) in bounds):
                return True
        return False


@dataclass(frozen=True)
class LayerFilter:
    """Selects layers by parts of their names.

    Terms are separated by commas or line breaks and match anywhere in a name, upper and lower case
    alike. `layers[0-5]` means a whole number from 0 to 5 there (`layers[3]` one number), with or
    without a dot before it. A term with a leading `-` or `!` leaves layers out and wins over the
    others. No term at all, or only such ones, start from every layer.

    Attributes:
        text: as the user wrote it.

    Raises:
        InputError: the text cannot be read, at construction.
    """

    text: str = ""

    def __post_init__(self) -> None:
        _ = self._terms  # an unreadable text is an error now, not at the first use

    @cached_property
    def _terms(self) -> tuple[_Term, ...]:
        check_length(_NAME, self.text)
        terms = self._written
        check_entries(_NAME, len(terms))
        return tuple(_parse(term.lower(), shortened(self.text)) for term in terms)

    @property
    def _written(self) -> list[str]:
        parts = (part.strip() for part in re.split(r"[,\n]", self.text))
        return [part for part in parts if part]

    @property
    def include(self) -> tuple[str, ...]:
        """The terms that layers have to match, as written."""
        return tuple(term for term in self._written if term[0] not in _EXCLUDES)

    @property
    def exclude(self) -> tuple[str, ...]:
        """The terms that leave layers out, as written, without their sign."""
        return tuple(term[1:].strip() for term in self._written if term[0] in _EXCLUDES)

    def matches(self, key: str) -> bool:
        """True where the LoRA stays active.

        Args:
            key: checkpoint key of a weight, e.g. model.model.transformer.layers.0.ff.ff.2.weight.
        """
        name = key.lower()
        wanted = [term for term in self._terms if not term.excludes]
        if any(term.found_in(name) for term in self._terms if term.excludes):
            return False
        return not wanted or any(term.found_in(name) for term in wanted)

    def count(self, keys: Iterable[str]) -> int:
        """How many of the keys stay active."""
        return sum(self.matches(key) for key in keys)


def _parse(term: str, text: str) -> _Term:
    excludes = term[0] in _EXCLUDES
    body = term[1:].strip() if excludes else term
    if not body:
        raise InputError(f"is {text}; {shortened(term)} in it names no layer. {_SYNTAX}.", _NAME)
    pattern, ranges, end = "", [], 0
    for found in _RANGE.finditer(body):
        low = int(found[1])
        high = low if found[2] is None else int(found[2])
        if high < low:
            raise InputError(
                f"is {text}; the range {found[0]} is reversed, write [{high}-{low}].", _NAME
            )
        # \.? lets layers[0-5] meet layers.3; the guards keep [1-2] from meeting 12 or 21
        pattern += _literal(body[end : found.start()], text) + r"\.?(?<!\d)(\d+)(?!\d)"
        ranges.append((low, high))
        end = found.end()
    return _Term(re.compile(pattern + _literal(body[end:], text)), tuple(ranges), excludes)


def _literal(part: str, text: str) -> str:
    if "[" in part or "]" in part:
        raise InputError(f"is {text}; unreadable [ ] in {shortened(part)}. {_SYNTAX}.", _NAME)
    return re.escape(part)
