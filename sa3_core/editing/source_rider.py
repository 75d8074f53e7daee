"""The source that rides on what is made of it, and what the finished audio gets back from it.

B batch, A audio channels, N audio samples. What rides is handed on by reference, never copied.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import SAMPLE_RATE
from .paste import Source, paste_back
from .regions import Region

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ItemSource:
    """What one item of a batch was made from.

    Attributes:
        waveform: [1, A, n], the item's own source, at its own rate.
        sample_rate: in Hz.
        regions: made anew, in seconds of the source.
        span: first and last sample that the piece covers; what lies outside is put before and
            after the piece again.
        rotate: samples that a loop was rotated by.
        origin: second of the source at which the piece starts.
    """

    waveform: Tensor
    sample_rate: int
    regions: tuple[Region, ...]
    span: tuple[int, int]
    rotate: int = 0
    origin: float = 0.0

    def paste(self, made: Tensor, crossfade: float) -> Tensor:
        """Lay the source over what was made of it, add the rest of it and turn a loop back.

        Args:
            made: [1, A', N'] at 44.1 kHz, cut to the piece.
            crossfade: seconds.

        Returns:
            [1, A, N] at the source's rate.
        """
        first, last = self.span
        part = self.waveform[..., first:last]
        covered = Source(part, self.sample_rate, [self.regions], first)
        pasted, _ = paste_back(made, covered, crossfade)
        head, tail = self.waveform[..., :first], self.waveform[..., last:]
        whole = torch.cat([head, pasted, tail], dim=-1)
        return torch.roll(whole, self.rotate, dims=-1)

    def turn_back(self, made: Tensor) -> Tensor:
        """Undo a loop's rotation on what was made of it, [..., N'] at 44.1 kHz."""
        shift = round(self.rotate * SAMPLE_RATE / self.sample_rate)
        return torch.roll(made, shift, dims=-1) if shift else made


@dataclass(frozen=True, eq=False)
class SourceRider:
    """The source of a batch as it rides on its latents.

    It can be read like a dict (`rider["regions"]`, `{**rider}`), as it was one once, and `of` takes
    such a dict: nodes of others may copy it.

    Attributes:
        waveform: [B or 1, A, N], the source as it came.
        sample_rate: in Hz.
        regions: made anew, per item, in the user's unrounded seconds of the source; None = nothing
            is marked, so nothing is ever pasted.
        lengths: samples of each item's own source; None = N.
        spans: (first, last) sample of the source that the latent covers, per item; None = all.
        origin: second of the source at which the latent starts, per item; None = 0.
        feather: seconds of crossfade that replace those of whoever pastes; 0 = those.
        rotate: samples that a loop rotated each item by, undone in the end; None = none. Waveform
            and regions are then those of the rotated loop.
        rows: row of `waveform` that each item has; None = its own, or the only one.
    """

    waveform: Tensor
    sample_rate: int
    regions: tuple[tuple[Region, ...], ...] | None = None
    lengths: tuple[int, ...] | None = None
    spans: tuple[tuple[int, int], ...] | None = None
    origin: tuple[float, ...] | None = None
    feather: float = 0.0
    rotate: tuple[int, ...] | None = None
    rows: tuple[int, ...] | None = None

    @classmethod
    def of(cls, value: "SourceRider | Mapping[str, Any] | None") -> "SourceRider | None":
        """What rides on a value, also as a plain dict of the same names; None = nothing.

        Raises:
            InputError: a dict without a waveform or a sample rate.
        """
        if value is None or isinstance(value, SourceRider):
            return value
        missing = [name for name in ("waveform", "sample_rate") if name not in value]
        if missing:
            raise InputError(
                f"The source that rides on the latent has no {' and no '.join(missing)}. Encode "
                "or mask the audio anew."
            )
        regions = value.get("regions")
        return cls(
            value["waveform"],
            int(value["sample_rate"]),
            None if regions is None else as_regions(regions),
            _entries(value.get("lengths"), int),
            _entries(value.get("spans"), lambda span: (int(span[0]), int(span[1]))),
            _entries(value.get("origin"), float),
            float(value.get("feather") or 0.0),
            _entries(value.get("rotate"), int),
            _entries(value.get("rows"), int),
        )

    def keys(self) -> list[str]:
        """Names of what is set."""
        always = ("waveform", "sample_rate", "regions")
        names = [field.name for field in fields(self)]
        return [name for name in names if name in always or getattr(self, name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(name)
        value = getattr(self, name)
        if name == "regions" and value is not None:
            return [list(regions) for regions in value]
        return list(value) if isinstance(value, tuple) else value

    def get(self, name: str, default: Any = None) -> Any:
        """Like a dict's."""
        return self[name] if name in self.keys() else default

    def own_lengths(self) -> tuple[int, ...]:
        """Samples of each item's own source."""
        return self.lengths or (self.waveform.shape[-1],) * self.waveform.shape[0]

    def items_of(self, batch: int, index: Sequence[int] | None = None) -> list[ItemSource]:
        """The rider taken apart for each item of a batch.

        Args:
            batch: items.
            index: where each item lay in the batch that it was taken from, see `item_indices`.

        Raises:
            InputError: the batch is no longer the one that was marked.
        """
        samples = self.waveform.shape[-1]
        own = self.rows or tuple(range(self.waveform.shape[0]))
        rows = [own[i] for i in item_indices(len(own), batch, index, "sources")]
        lengths = self.entries(self.lengths, batch, index, "lengths") or [samples] * batch
        whole = [(0, length) for length in lengths]
        spans = self.entries(self.spans, batch, index, "spans") or whole
        regions = self.entries(self.regions, batch, index, "regions") or [()] * batch
        rotate = self.entries(self.rotate, batch, index, "rotations") or [0] * batch
        origin = self.entries(self.origin, batch, index, "origins") or [0.0] * batch
        return [
            ItemSource(
                self.waveform[row : row + 1, :, : lengths[b]],
                self.sample_rate,
                regions[b],
                spans[b],
                rotate[b],
                origin[b],
            )
            for b, row in enumerate(rows)
        ]

    def select(self, items: Sequence[int], batch: int) -> "SourceRider":
        """The rider of a batch that was picked out of another one; shares the waveform.

        Args:
            items: which item of the other batch each one is.
            batch: items of the other batch.

        Raises:
            InputError: the rider does not fit the other batch.
        """
        if list(items) == list(range(batch)) and self._fits(batch):
            return self

        def pick(values: Sequence[T] | None, what: str) -> tuple[T, ...] | None:
            whole = self.entries(values, batch, None, what)
            return None if whole is None else tuple(whole[item] for item in items)

        own = self.rows or tuple(range(self.waveform.shape[0]))
        return replace(
            self,
            rows=pick(own, "sources"),
            regions=pick(self.regions, "regions"),
            lengths=pick(self.lengths, "lengths"),
            spans=pick(self.spans, "spans"),
            origin=pick(self.origin, "origins"),
            rotate=pick(self.rotate, "rotations"),
        )

    def _fits(self, batch: int) -> bool:
        """Whether everything is there once per item, or once for all."""
        lists = (self.rows, self.regions, self.lengths, self.spans, self.origin, self.rotate)
        counts = [len(values) for values in lists if values is not None]
        return {*counts, self.waveform.shape[0] if self.rows is None else batch} <= {1, batch}

    def entries(
        self, values: Sequence[T] | None, batch: int, index: Sequence[int] | None, what: str
    ) -> list[T] | None:
        """One of the rider's lists with one entry for each item of a batch, or None."""
        if values is None:
            return None
        rows = item_indices(len(values), batch, index, f"{what} of its source")
        return [values[row] for row in rows]


def item_indices(count: int, batch: int, index: Sequence[int] | None, what: str) -> list[int]:
    """Which of `count` entries belongs to each item of a batch.

    Args:
        count: entries.
        batch: items; a multiple of the entries repeats them.
        index: where each item lay in the batch that it was taken from, or None.
        what: names the entries in the error.

    Raises:
        InputError: they fit in no way.
    """
    if count == batch:
        return list(range(batch))
    if index is not None and len(index) == batch and count:
        return [int(i) % count for i in index]
    if count and batch % count == 0:
        return [item % count for item in range(batch)]
    raise InputError(
        f"The latent has {batch} items but carries {count} {what}. Mask the batch anew."
    )


def as_regions(lists: Sequence[Sequence[Sequence[float]]]) -> tuple[tuple[Region, ...], ...]:
    """Lists of (start, end) pairs per item as they ride."""
    return tuple(tuple(Region(*pair) for pair in pairs) for pairs in lists)


def _entries(values: Sequence[Any] | None, kind: Any) -> tuple[Any, ...] | None:
    return tuple(kind(value) for value in values) if values else None
