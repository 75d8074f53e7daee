"""Rows that one batch can hold: alike but for their texts, seeds and nearly equal lengths."""

from argparse import Namespace as Values
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..geometry import HOP, SAMPLE_RATE
from .fields import COLUMNS, GENERATE
from .row import Row, digest_of, seconds_of

MOST_PADDING = 0.05  # share of a batch's frames
_OWN = ("prompt", "negative", "seconds", "bars", "bpm", "seed")  # what a batch has one of per item
LARGEST = 32  # rows of a bucket, and the largest batch


@dataclass(frozen=True)
class Bucket:
    """Rows that a worker makes together, in batches as large as its memory allows.

    Attributes:
        rows: shortest first.
        frames: latent frames of each, headroom included.
    """

    rows: tuple[Row, ...]
    frames: tuple[int, ...]


def padding_share(frames: Iterable[int]) -> float:
    """Share of padding in a batch of items of these lengths."""
    lengths = list(frames)
    return 1 - sum(lengths) / (len(lengths) * max(lengths))


def bucket_rows(rows: Iterable[tuple[Row, Values]], largest: int) -> list[Bucket]:
    """Put rows into buckets; those that edit a sound are alone.

    Buckets of one model and its LoRAs follow each other, so that a worker seldom loads.

    Args:
        rows: with their values.
        largest: most rows of a bucket.
    """
    groups: dict[tuple[str, str], list[tuple[int, Row, bool]]] = {}
    for row, values in rows:
        loaded = digest_of([values.model, values.lora])
        edits = COLUMNS[GENERATE].has_source(values)
        alone = largest == 1 or edits
        frames = 0 if edits else _frames(seconds_of(values), values.headroom)
        alike = {name: value for name, value in vars(values).items() if name not in _OWN}
        key = (loaded, digest_of([alike, bool(values.negative)]))
        groups.setdefault(key, []).append((frames, row, alone))
    return [
        bucket
        for _, group in sorted(groups.items(), key=lambda item: item[0])
        for bucket in _cut(sorted(group, key=lambda entry: entry[:1]), largest)
    ]


def _frames(seconds: float, headroom: float) -> int:
    return max(1, round((seconds + headroom) * SAMPLE_RATE / HOP))


def _cut(group: list[tuple[int, Row, bool]], largest: int) -> Iterator[Bucket]:
    """Cut sorted rows where a batch would be too large or too uneven."""
    rows: list[Row] = []
    frames: list[int] = []
    for count, row, alone in group:
        full = len(rows) >= largest or alone
        if rows and (full or padding_share([*frames, count]) >= MOST_PADDING):
            yield Bucket(tuple(rows), tuple(frames))
            rows, frames = [], []
        rows.append(row)
        frames.append(count)
    if rows:
        yield Bucket(tuple(rows), tuple(frames))
