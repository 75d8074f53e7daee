"""Guided velocity of a batch, with everything constant over the generation computed once."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..networks.conditioning import Context, join_contexts
from ..networks.dit import DiTConstants
from ..networks.model import SA3Model
from .guidance import Guidance, guided_velocity
from .levels import Levels


class WeightSwitch(Protocol):
    """Weights that depend on the noise level, e.g. adapters with an interval."""

    def active(self, t: float) -> Hashable:
        """Which set of weights is in force at noise level t."""
        ...

    def activate(self, key: Any) -> None:
        """Put that set in place before the net is called again."""
        ...


@dataclass
class Predictor:
    """Velocity of every item, computed together as far as weights and guidance allow.

    Attributes:
        model: the net and its conditioner.
        contexts: positive, and negative or None when guidance is off.
        duration: [B, 768].
        local: [B, 1 + C, V] or None.
        mask: bool [B, V] or None.
        guidance: settings.
        switch: weights that change with t, or None.
        levels: noise levels that are on the device already, or None.
    """

    model: SA3Model
    contexts: tuple[Context, Context | None]
    duration: Tensor
    local: Tensor | None
    mask: Tensor | None
    guidance: Guidance
    switch: WeightSwitch | None = None
    levels: Levels | None = None
    _constants: dict[Hashable, DiTConstants] = field(default_factory=dict)
    _masks: dict[tuple[int, ...], Tensor] = field(default_factory=dict)  # on the device
    _in_place: Hashable = field(default_factory=object)  # equal to no set: none is in place yet

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """x [B, C, V], t [B] on the CPU -> v [B, C, V] float32."""
        levels = self.levels or Levels(x.device)
        placed, everyone = levels.placed(t), tuple(range(len(t)))
        if self.switch is None:
            return self._group(x, placed, everyone, None, self._acting(t))
        groups: dict[Hashable, list[int]] = {}
        for item, level in enumerate(t.tolist()):
            groups.setdefault(self.switch.active(level), []).append(item)
        rows: list[Tensor | None] = [None] * len(t)
        for key, items in groups.items():
            if key != self._in_place:
                self.switch.activate(key)
                self._in_place = key
            acting = self._acting(t[items])
            if len(groups) == 1:
                return self._group(x, placed, everyone, key, acting)
            made = self._group(_some(x, items), _some(placed, items), tuple(items), key, acting)
            for item, row in zip(items, made, strict=True):
                rows[item] = row
        return torch.stack([row for row in rows if row is not None])

    def _acting(self, t: Tensor) -> bool:
        """Whether guidance acts on any item at levels t, on the CPU."""
        return self.contexts[1] is not None and bool(self.guidance.acts_at(t).any())

    def _group(
        self, x: Tensor, t: Tensor, items: tuple[int, ...], key: Hashable, acting: bool
    ) -> Tensor:
        """Velocity of items that share one set of weights; t on the device."""
        constants = self._prepared(items, key, acting, x.shape[-1])
        net = self.model.net.velocity
        if not acting:
            return net(x, t, constants)
        both = net(torch.cat([x, x]), torch.cat([t, t]), constants)
        v_cond, v_uncond = both.chunk(2)
        return guided_velocity(x, t, v_cond, v_uncond, self.guidance, self._placed_mask(items, x))

    def _placed_mask(self, items: tuple[int, ...], like: Tensor) -> Tensor | None:
        if self.mask is None:
            return None
        if items not in self._masks:
            self._masks[items] = _some(self.mask, items).to(like.device)
        return self._masks[items]

    def _prepared(
        self, items: tuple[int, ...], key: Hashable, acting: bool, frames: int
    ) -> DiTConstants:
        cache_key = (items, key, acting)
        if cache_key not in self._constants:
            self._constants[cache_key] = self._prepare(list(items), acting, frames)
        return self._constants[cache_key]

    def _prepare(self, items: list[int], acting: bool, frames: int) -> DiTConstants:
        rows, shared = row_counts(len(items), acting)
        copies, repeat = rows // len(items), shared // len(items)
        contexts = [c for c in self.contexts[:copies] if c is not None]
        context = join_contexts(
            [Context(_some(c.tokens, items), _some(c.bias, items)) for c in contexts]
        )
        mask = _rows(self.mask, items, repeat)
        return self.model.net.prepare(
            context=context.tokens.to(self.model.device, self.model.dtype),
            context_bias=context.bias,
            global_cond=_some(self.duration, items).repeat(copies, 1),
            local_cond=_rows(self.local, items, repeat, lambda x: x.to(self.model.device)),
            padding_mask=None if mask is None or bool(mask.all()) else mask,
            frames=frames,
        )


def row_counts(items: int, guided: bool) -> tuple[int, int]:
    """Rows that the net computes for a number of items, and rows of their masks and sources.

    Guidance computes every item twice; a single item's mask and source broadcast over both.
    """
    rows = 2 * items if guided else items
    return rows, 1 if items == 1 else rows


def _some(x: Tensor, items: Sequence[int]) -> Tensor:
    """The items of x, put together one by one: a list as an index would be sent to the device."""
    return x if len(items) == len(x) else torch.stack([x[item] for item in items])


def _rows(
    x: Tensor | None,
    items: list[int],
    copies: int,
    place: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor | None:
    return None if x is None else place(torch.cat([_some(x, items)] * copies))
