"""Regions as users and other nodes give them, resolved for every item of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..checks import MAX_ITEMS, broadcast, check_entries, check_length
from ..errors import InputError, RegionError
from .regions import Region, invert_regions, parse_regions, regions_from_list

_ANY_DURATION = 1e9  # seconds; long enough for every region that could be meant


@dataclass(frozen=True)
class RegionRequest:
    """What is to be made anew.

    Attributes:
        text: regions in the grammar of `parse_regions`; may be blank when `listed` is given.
        one_list_per_line: each line that is not blank is the list of one batch item.
        listed: from another node: a text, pairs of seconds, or a list of either per item.
        bpm: beats per minute for bars, 0 = not given.
        beats_per_bar: for bars.
        invert: make everything else anew instead.
    """

    text: str = ""
    one_list_per_line: bool = False
    listed: Any = None
    bpm: float = 0.0
    beats_per_bar: int = 4
    invert: bool = False

    def resolve(self, durations: Sequence[float]) -> list[list[Region]]:
        """The regions of each item, checked against its duration.

        Args:
            durations: of the items; one item is repeated for several lists.

        Raises:
            RegionError: see `parse_regions` and `regions_from_list`.
            InputError: counts that fit in no way, naming both.
        """
        check_length("regions", self.text)
        texts, lists = self._texts(), _item_lists(self.listed)
        check_entries("regions", len(texts))
        check_entries("region_list", len(lists))
        if not texts and not lists:
            texts = [""]  # the parser says what is missing
        batch = max(len(durations), len(texts), len(lists))
        rows = {
            "durations": broadcast(len(durations), batch, "latents"),
            "texts": broadcast(len(texts), batch, "lists of regions") if texts else [],
            "lists": broadcast(len(lists), batch, "lists of regions") if lists else [],
        }
        resolved = []
        for item in range(batch):
            duration = durations[rows["durations"][item]]
            given = [texts[rows["texts"][item]]] if texts else []
            given += [lists[rows["lists"][item]]] if lists else []
            many = max(len(texts), len(lists)) > 1
            resolved.append(self._item(given, duration, f"Item {item + 1}: " if many else ""))
        return resolved

    def _texts(self) -> list[str]:
        if self.one_list_per_line:
            return [line for line in self.text.splitlines() if line.strip()]
        return [self.text] if self.text.strip() else []

    def _item(self, given: Sequence[Any], duration: float, name: str) -> list[Region]:
        try:
            regions = [region for value in given for region in self._read(value, duration)]
            return invert_regions(regions, duration) if self.invert else regions
        except RegionError as error:
            raise RegionError(f"{name}{error}") from error

    def _read(self, value: Any, duration: float) -> list[Region]:
        if isinstance(value, str):
            return parse_regions(value, duration, self.bpm or None, self.beats_per_bar)
        return regions_from_list(value, duration)


def check_text(text: str, one_list_per_line: bool = False) -> str | None:
    """What is wrong with a text of regions whatever the piece lasts, or None.

    Shares of the duration cannot be compared with seconds before the audio is known.
    """
    if not text.strip() or "%" in text:
        return None
    try:
        request = RegionRequest(text, one_list_per_line, bpm=120.0)
        request.resolve([_ANY_DURATION])
    except (InputError, RegionError) as error:
        return str(error).replace(f"{_ANY_DURATION:g} s", "the duration")
    return None


def _item_lists(listed: Any) -> list[Any]:
    """A value of another node as one entry per item: each a text or a list of pairs."""
    if listed is None:
        return []
    if isinstance(listed, str):
        return [listed]
    if hasattr(listed, "tolist"):
        check_entries("region_list", len(listed) if listed.ndim else 1)
        listed = listed.tolist()
    try:
        rows = list(islice(listed, MAX_ITEMS + 1))
    except TypeError:
        raise RegionError(
            f"region_list is a {type(listed).__name__}; it must be a list of (start, end) pairs of "
            "seconds, or one such list per item."
        ) from None
    check_entries("region_list", len(rows))
    if rows and all(isinstance(row, str) for row in rows):
        return rows
    if rows and all(_is_list_of_pairs(row) for row in rows):
        return rows
    return [rows]


def _is_list_of_pairs(row: Any) -> bool:
    return (
        isinstance(row, list | tuple)
        and len(row) > 0
        and all(isinstance(pair, list | tuple) for pair in row)
    )
