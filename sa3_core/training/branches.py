"""Trainable LoRAs computed beside the frozen layers, for all eight types.

No type needs the adapted weight itself: with L R the low-rank product and s its scale,

    W' = diag(g) (W + s L R) diag(c)   =>   y = g * (W (c * x) + s L (R (c * x)))

where g and c are magnitudes over norms of rows and columns. The norms' squares take |w|^2,
s w.(L R) and s^2 |L R|^2, so that no gradient of a whole weight is ever made. Those of rows alone,
in float32, are made by the layer's own products (`products`), all others once per step.

Source: arXiv 2106.09685 (LoRA), 2402.09353 (DoRA), 2405.17604 (LoRA-XS), 2412.06441 (BoRA).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..adapters.bases import Bases
from ..adapters.rules import RULES, XS_SUFFIX
from ..networks.quantised import QuantisedLinear
from .products import NORM_EPS, Frozen, adapted_product, root


@dataclass(frozen=True, eq=False)
class _Effective:
    """What one step's tensors make of a layer.

    Attributes:
        left: [out, r], the scale in it.
        right: [r, in].
        rows: [out], gain of rows; None = 1, or made by the product.
        columns: [in], gain of columns; None = 1.
    """

    left: Tensor
    right: Tensor
    rows: Tensor | None
    columns: Tensor | None


@dataclass(frozen=True, eq=False)
class PlainBranch:
    """A branch as W' = (W + up down) scaled row by row or column by column.

    Attributes:
        up: [out, r], the scale in it.
        down: [r, in].
        rows: [out], lengths over the frozen weight's own of the rows' scale; None = unscaled.
        columns: [in], lengths of the adapted weight's columns; None = unscaled.
    """

    up: Tensor
    down: Tensor
    rows: Tensor | None
    columns: Tensor | None


class Branch(nn.Module):
    """One layer's trainable LoRA; its parameters carry the names of a LoRA file.

    Attributes:
        adapter_type: one of ADAPTER_TYPES.
        scale: alpha / rank.
    """

    def __init__(
        self,
        layer: nn.Module,
        adapter_type: str,
        rank: int,
        scale: float,
        bases: Bases | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Start as the identity: B or M is 0, magnitudes are the weight's own norms.

        Args:
            layer: Linear, or Conv1d of one tap.
            adapter_type: one of ADAPTER_TYPES.
            rank: at most the layer's smaller side.
            scale: alpha / rank.
            bases: singular vectors of the weight, for -xs types.
            generator: what A is drawn from.
        """
        super().__init__()
        self.adapter_type, self.scale = adapter_type, scale
        self._rule = RULES[adapter_type.removesuffix(XS_SUFFIX)]
        self._layer = (layer,)  # in a tuple: the layer's weights are not this module's
        weight = self.weight.detach()
        out, width = weight.shape
        if bases is None:
            bound, device = width**-0.5, weight.device
            start = torch.empty(rank, width).uniform_(-bound, bound, generator=generator)
            self.lora_A = nn.Parameter(start.to(device))
            self.lora_B = nn.Parameter(torch.zeros(out, rank, device=device))
        else:
            self.M_xs = nn.Parameter(torch.zeros(rank, rank, device=weight.device))
            self.register_buffer("_u", bases[0].to(weight.device), persistent=False)
            self.register_buffer("_v", bases[1].T.contiguous().to(weight.device), persistent=False)
        self._squares: dict[int, Tensor] = {}
        for axis in set(self._rule.axes):
            self._squares[axis] = weight.square().sum(dim=1 - axis)
        for name, axis in zip(self._rule.names, self._rule.axes, strict=True):
            setattr(self, name, nn.Parameter(root(self._squares[axis])))
        self._now: _Effective | None = None

    def attach(self) -> list["Attached"]:
        """Let the layer compute with the branch until what comes back is removed."""
        return [Attached(self._layer[0], self._adapted)]

    def begin_step(self, dropout: float = 0.0, generator: torch.Generator | None = None) -> None:
        """Compute what the parameters make of the layer; once per forward pass.

        Args:
            dropout: probability that an input channel is left out of the low-rank part.
            generator: on the CPU, what the channels are drawn from.
        """
        left, right = self._sides()
        if dropout > 0:
            kept = torch.rand(1, right.shape[1], generator=generator) >= dropout
            right = right * (kept.to(right) / (1 - dropout))
        if self.scale != 1:
            left = left * self.scale
        if self._norms_ride_along:
            self._now = _Effective(left, right, None, None)
        else:
            self._now = self._effective(left, right)

    @property
    def _norms_ride_along(self) -> bool:
        """Whether the layer's own products make the rows' norms: of float32, and rows alone."""
        weight = self._layer[0].get_parameter("weight")
        return self._rule.axes == (0,) and weight.dtype == torch.float32

    def _effective(self, left: Tensor, right: Tensor) -> _Effective:
        """Both sides, the scale in them, and what rows and columns are multiplied with."""
        rows = columns = None
        for name, axis in zip(self._rule.names, self._rule.axes, strict=True):
            magnitude = self.get_parameter(name)
            if axis == 0:
                rows = magnitude / (self._row_norms(left, right) + NORM_EPS)
            else:
                columns = magnitude / (self._column_norms(left, right, rows) + NORM_EPS)
        return _Effective(left, right, rows, columns)

    @torch.no_grad()
    def squares(self) -> tuple[float, float]:
        """Squared norms of the change of the weight, and of the weight itself."""
        now, effective = self.weight, self._unchanging()
        changed = now + effective.left @ effective.right
        if effective.rows is not None:
            changed *= effective.rows[:, None]
        if effective.columns is not None:
            changed *= effective.columns
        return float((changed - now).square().sum()), float(now.square().sum())

    @torch.no_grad()
    def plain(self) -> "PlainBranch":
        """What the branch does, in the terms of other programs."""
        now = self._unchanging()
        rows = columns = None
        if now.rows is not None:
            rows = now.rows * root(self._squares[0])
        if now.columns is not None:
            columns = now.columns * self._column_norms(now.left, now.right, now.rows)
        return PlainBranch(now.left, now.right, rows, columns)

    def _unchanging(self) -> _Effective:
        """What the parameters make of the layer without dropout."""
        left, right = self._sides()
        return self._effective(left * self.scale, right)

    @property
    def weight(self) -> Tensor:
        """The frozen weight, float32 [out, in]."""
        return self._weight_in(torch.float32)

    @property
    def taps(self) -> tuple[int, ...]:
        """Sizes of the frozen weight behind [out, in]: (1,) of a Conv1d, () of a Linear."""
        return (1,) if isinstance(self._layer[0], nn.Conv1d) else ()

    def _sides(self) -> tuple[Tensor, Tensor]:
        """Left [out, r] and right [r, in] of the low-rank product."""
        if self.adapter_type.endswith(XS_SUFFIX):
            u, v = self.get_buffer("_u"), self.get_buffer("_v")
            return u @ self.get_parameter("M_xs"), v
        return self.get_parameter("lora_B"), self.get_parameter("lora_A")

    def _row_norms(self, left: Tensor, right: Tensor) -> Tensor:
        """Lengths of the rows of W + L R, [out]."""
        cross = (left * self._times(right.T, False)).sum(dim=1)
        own = ((left @ (right @ right.T)) * left).sum(dim=1)
        return root(self._squares[0] + 2 * cross + own)

    def _column_norms(self, left: Tensor, right: Tensor, gain: Tensor | None) -> Tensor:
        """Lengths of the columns of diag(gain) (W + L R), [in]."""
        if gain is None:
            squares, weighted = self._squares[1], left
        else:
            # Run again on the way back: the squared weight is not to be kept.
            squares = cast(
                Tensor,
                checkpoint(lambda g: g.square() @ self.weight.square(), gain, use_reentrant=False),
            )
            weighted = left * gain.square()[:, None]
        cross = (self._times(weighted, True).T * right).sum(dim=0)
        own = (((left.T @ weighted) @ right) * right).sum(dim=0)
        return root(squares + 2 * cross + own)

    def _times(self, values: Tensor, turned: bool) -> Tensor:
        """W values, or W^T values, [_, r]."""
        return cast(Tensor, _TimesFrozen.apply(values, self, turned))

    def _adapted(self, x: Tensor) -> Tensor:
        """What the layer makes of x with the branch."""
        layer, now = self._layer[0], self._now
        assert now is not None
        x = x.transpose(1, 2) if isinstance(layer, nn.Conv1d) else x
        if now.columns is not None:
            x = torch.addcmul(x, x, (now.columns - 1).to(x))
        rows, squares = now.rows, None
        if self._norms_ride_along:
            rows, squares = self.get_parameter(self._rule.names[0]), self._squares[0]
        frozen = Frozen(self._weight_in, getattr(layer, "bias", None), squares)
        left, right = now.left.to(x), now.right.to(x)
        out = adapted_product(x, left, right, None if rows is None else rows.to(x), frozen)
        return out.transpose(1, 2) if isinstance(layer, nn.Conv1d) else out

    def _weight_in(self, dtype: torch.dtype) -> Tensor:
        """The frozen weight [out, in] in a dtype."""
        layer = self._layer[0]
        if isinstance(layer, QuantisedLinear):
            return layer.widened(dtype)
        return layer.get_parameter("weight").detach().flatten(1).to(dtype)


class Attached:
    """A layer that computes something else in its place."""

    def __init__(self, layer: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
        self._layer = layer
        layer.forward = forward

    def remove(self) -> None:
        """The layer computes as before."""
        del self._layer.forward


class _TimesFrozen(torch.autograd.Function):
    """A product with a frozen weight that keeps no weight for the way back.

    Weights of fewer bits are widened for it, and autograd would keep all of them wide at once.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, branch: Branch, turned: bool) -> Tensor:
        ctx.branch, ctx.turned = branch, turned
        return (branch.weight.T if turned else branch.weight) @ values

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        weight = ctx.branch.weight
        return (weight if ctx.turned else weight.T) @ grads[0], None, None
