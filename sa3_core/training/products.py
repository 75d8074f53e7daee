"""The product of a layer with its low-rank branch, forward and back, in as few passes as it takes.

    y = g * (W x + L (R x)) + b,  g = m / |W + L R| by rows, or given, or 1

Of y alone is g's gradient made: what the layers behind keep anyway. Norms need W R^T on the way
forward and a product with W on the way back; both ride along as r more rows of the products that
the layer makes, so that a weight is read once on each way and none of its size is ever kept.

N rows, r the rank.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..networks.ops import linear, linear_back

NORM_EPS = 1e-12  # added to norms, as in the rebuilt weight


@dataclass(frozen=True, eq=False)
class Frozen:
    """What does not learn.

    Attributes:
        weight: makes [out, in] in a dtype; asked again on the way back.
        bias: [out] or None.
        squares: [out], of the rows' lengths, where the gain is a magnitude over norms that are
            made here; None = it is the gain itself.
    """

    weight: Callable[[torch.dtype], Tensor]
    bias: Tensor | None
    squares: Tensor | None


def adapted_product(
    x: Tensor, left: Tensor, right: Tensor, gain: Tensor | None, frozen: Frozen
) -> Tensor:
    """[..., in] -> [..., out].

    Args:
        x: of one dtype with `left`, `right`.
        left: [out, r], the scale in it.
        right: [r, in].
        gain: [out], see `Frozen.squares`; None = 1.
        frozen: weight and bias.
    """
    out: Tensor = _Product.apply(x, left, right, gain, frozen)  # pyright: ignore[reportAssignmentType]
    return out


def root(squares: Tensor) -> Tensor:
    """Square roots; 0 where rounding went below."""
    return squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, left: Tensor, right: Tensor, gain: Tensor | None, frozen: Frozen
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        low = flat @ right.T
        out, rows, norms, turned = _forward(flat, low, left, right, gain, frozen)
        ctx.frozen, ctx.shape = frozen, x.shape
        ctx.forgets_output = rows is None  # see `networks.backward.gated`
        ctx.save_for_backward(
            flat, low, left, right, None if rows is None else out, rows, norms, turned
        )
        return out.view(*x.shape[:-1], out.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat, low, left, right, out, rows, norms, turned = ctx.saved_tensors
        frozen: Frozen = ctx.frozen
        grad = grads[0].reshape(len(flat), -1)
        rank = len(right) if norms is not None else 0
        stacked, d_gain = grad, None
        if rows is not None:
            stacked = grad.new_empty(len(grad) + rank, grad.shape[1])
            d_gain = _gain_gradient(grad, out, rows, frozen.bias, stacked[: len(grad)])
            del out
            grad = torch.mul(grad, rows, out=stacked[: len(grad)])
        d_low = grad @ left
        d_left = (low.T @ grad).T
        d_right = d_low.T @ flat
        del flat  # where blocks run again nothing else holds it, and the next product is as large
        if norms is not None:
            assert d_gain is not None
            assert rows is not None
            d_squares = _squares_gradient(d_gain, rows, norms)[:, None]
            weighted = d_squares * left
            stacked[len(grad) :] = weighted.T
            d_left += d_squares * (turned.T + left @ (right @ right.T))
            d_right += (left.T @ weighted) @ right
            d_gain = d_gain / (norms + NORM_EPS)
        weight = frozen.weight(right.dtype)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_all = linear_back(stacked, weight)
            d_x = d_all[: len(grad)].addmm_(d_low, right).view(ctx.shape)
            if norms is not None:
                d_right += d_all[len(grad) :]
        elif norms is not None:
            d_right += stacked[len(grad) :] @ weight
        return d_x, d_left, d_right, d_gain, None


def _forward(
    flat: Tensor, low: Tensor, left: Tensor, right: Tensor, gain: Tensor | None, frozen: Frozen
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The result [N, out]; gain of rows, their norms and R W^T [r, out], where they are made."""
    weight = frozen.weight(flat.dtype)
    if frozen.squares is None:
        out, rows, norms, turned = linear(flat, weight, None), gain, None, None
    else:
        assert gain is not None
        both = linear(torch.cat([flat, right]), weight, None)
        out, turned = both[: len(flat)], both[len(flat) :].clone()
        squares = frozen.squares + 2 * (left * turned.T).sum(dim=1)
        norms = root(squares + ((left @ (right @ right.T)) * left).sum(dim=1))
        rows = gain / (norms + NORM_EPS)
    out.addmm_(low, left.T)
    if rows is None:
        out = out if frozen.bias is None else out.add_(frozen.bias)
    elif frozen.bias is None:
        out.mul_(rows)
    else:
        torch.addcmul(frozen.bias, out, rows, out=out)
    return out, rows, norms, turned


def _gain_gradient(
    grad: Tensor, out: Tensor, rows: Tensor, bias: Tensor | None, room: Tensor
) -> Tensor:
    """Of the rows' gain, from (y - b) / g; 0 where it is 0. `room` [N, out] is written over."""
    total = torch.mul(grad, out, out=room).sum(dim=0)
    if bias is not None:
        total -= bias * grad.sum(dim=0)
    return torch.where(rows == 0, 0.0, total / rows)


def _squares_gradient(d_gain: Tensor, rows: Tensor, norms: Tensor) -> Tensor:
    """Of the norms' squares, twice: what 2 w.(L R) and |L R|^2 are multiplied with."""
    return -d_gain * rows / ((norms + NORM_EPS) * norms)
