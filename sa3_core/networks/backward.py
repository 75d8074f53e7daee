"""Ways back of the blocks' element-wise parts, written out: few passes over memory, little kept.

Forward they are what inference computes, to the bit. Autograd would keep every step of a chain and
walk each of them back; these keep what went in, and make the rest again in passes that share their
memory. All gradients exist that anything asks for, those of gains included.

B items, N tokens, H heads.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

RotaryTable = tuple[Tensor, Tensor]
Heads = tuple[Tensor, Tensor, Tensor]
_ROWS = 256  # that stay in a processor's cache from one operation to the next


def gated(both: Tensor) -> Tensor:
    """value * silu(gate) of [..., value and gate].

    It is by far the widest tensor of a block. Where what made it says that it will not ask for it
    again (`forgets_output`), the way back writes its gradient into it.
    """
    free = getattr(both.grad_fn, "forgets_output", False)
    return _Gated.apply(both, free)  # pyright: ignore[reportReturnType]


def modulated(x: Tensor, factor: Tensor, shift: Tensor | None, eps: float) -> Tensor:
    """RMSNorm over the last dimension, times `factor`, plus `shift`, in float32.

    Args:
        x: [B, N, D].
        factor: [B, 1, D] or [D] float32.
        shift: [B, 1, D] float32, or None.
        eps: of the norm.
    """
    return _Modulated.apply(x, factor, shift, eps)  # pyright: ignore[reportReturnType]


def gate_added(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """x + y * gate; x [B, N, D] float32, gate [B, 1, D]."""
    return _GateAdded.apply(x, y, gate)  # pyright: ignore[reportReturnType]


def rows_added(x: Tensor, y: Tensor, start: int) -> Tensor:
    """x [B, N, D] with y [B or 1, n, D] added to n of its tokens from `start` on."""
    return _RowsAdded.apply(x, y, start)  # pyright: ignore[reportReturnType]


def attention_heads(
    rows: Tensor,
    gains: tuple[Tensor, Tensor],
    make: Callable[[Tensor], Heads],
    rotary: RotaryTable,
    eps: float,
) -> Heads:
    """Queries, keys and values of self-attention.

    Args:
        rows: [B, N, 3 or 5, H, 64]: q, k, v and, differential, q', k'.
        gains: [64] float32, of queries and of keys.
        make: computes them from `rows`: heads of unit RMS times gain, rotated; values as they are.
        rotary: what `make` rotates with.
        eps: of the norms.
    """
    return _AttentionHeads.apply(rows, *gains, make, rotary, eps)  # pyright: ignore[reportReturnType]


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor, free: bool) -> Tensor:
        ctx.free = free
        ctx.save_for_backward(both)
        value, gate = both.chunk(2, dim=-1)
        return F.silu(gate).mul_(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (both,) = ctx.saved_tensors
        if ctx.free:
            return _gated_back_in_place(grads[0], both), None
        value, gate = both.chunk(2, dim=-1)
        out = torch.empty_like(both)
        to_value, to_gate = out.chunk(2, dim=-1)
        torch.mul(grads[0], value, out=to_gate)
        torch.ops.aten.silu_backward.grad_input(to_gate, gate, grad_input=to_gate)
        torch.ops.aten.silu.out(gate, out=to_value).mul_(grads[0])
        return out, None


def _gated_back_in_place(grad: Tensor, both: Tensor) -> Tensor:
    """Write the gradient of `both` over it, some rows at a time."""
    rows = _ROWS if both.is_cpu else max(1, both.shape[:-1].numel())
    parts = (side.view(-1, side.shape[-1]).split(rows) for side in (grad.contiguous(), both))
    for given, part in zip(*parts, strict=True):
        value, gate = part.chunk(2, dim=-1)
        passed = F.silu(gate).mul_(given)
        value.mul_(given)
        torch.ops.aten.silu_backward.grad_input(value, gate, grad_input=gate)
        value.copy_(passed)
    return both


class _Modulated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, shift: Tensor | None, eps: float) -> Tensor:
        ctx.save_for_backward(x, factor)
        ctx.eps = eps
        out = F.rms_norm(x.float(), x.shape[-1:], eps=eps).mul_(factor)
        return out if shift is None else out.add_(shift)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, factor), grad = ctx.saved_tensors, grads[0]
        d_x, d_factor = _norm_back(grad, x.float(), factor, ctx.eps)
        d_shift = grad.sum(dim=1, keepdim=True) if ctx.needs_input_grad[2] else None
        return d_x.to(x.dtype), d_factor, d_shift, None


class _GateAdded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(y, gate)
        return torch.addcmul(x, y, gate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (y, gate), grad = ctx.saved_tensors, grads[0]
        d_gate = (grad * y).sum(dim=1, keepdim=True)  # first: a block holds most about here
        return grad, (grad * gate).to(y.dtype), d_gate


class _RowsAdded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, start: int) -> Tensor:
        ctx.start, ctx.shape = start, y.shape
        out = x.clone()
        out[:, start : start + y.shape[1]] += y
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        grad = grads[0]
        rows = grad[:, ctx.start : ctx.start + ctx.shape[1]]
        return grad, rows.sum_to_size(ctx.shape), None


class _AttentionHeads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        q_gain: Tensor,
        k_gain: Tensor,
        make: Callable[[Tensor], Heads],
        rotary: RotaryTable,
        eps: float,
    ) -> Heads:
        ctx.save_for_backward(rows, q_gain, k_gain, *rotary)
        ctx.eps = eps
        q, k, v = make(rows)
        # A view of what went in may not come out.
        return q, k, v.clone() if v.untyped_storage().data_ptr() == _place(rows) else v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, q_gain, k_gain, cos, sin = ctx.saved_tensors
        g_q, g_k, g_v = (_tokens_first(grad, rows) for grad in grads)
        seen = g_k.shape[1]  # keys may lack tokens at the end
        out = rows.new_empty(rows.shape) if seen == rows.shape[1] else rows.new_zeros(rows.shape)
        d_gains: list[Tensor | None] = []
        for part, gain, grad in ((0, q_gain, g_q), (1, k_gain, g_k)):
            n = grad.shape[1]
            turned = _turned_back(grad.float(), cos[:n], sin[:n])
            heads = rows[:, :n, part::3].float()
            d_heads, d_gain = _norm_back(turned, heads, gain, ctx.eps)
            out[:, :n, part::3] = d_heads
            d_gains.append(d_gain if ctx.needs_input_grad[1 + part] else None)
        out[:, :seen, 2] = g_v.sum(dim=2) if g_v.shape[2] > 1 else g_v[:, :, 0]
        return out, *d_gains, None, None, None


def _place(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _tokens_first(x: Tensor, rows: Tensor) -> Tensor:
    """[B, halves * H, n, 64] -> [B, n, halves, H, 64]."""
    return x.transpose(1, 2).unflatten(2, (-1, rows.shape[3]))


def _turned_back(grad: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """What a rotation's gradient [B, n, halves, H, 64] is before it."""
    width, half = cos.shape[-1], cos.shape[-1] // 2
    cos, sin = cos[:, None, None], sin[:, None, None, :half]
    out = grad.clone(memory_format=torch.contiguous_format)
    out[..., :width] *= cos
    out[..., :half].addcmul_(grad[..., half:width], sin)
    out[..., half:width].addcmul_(grad[..., :half], sin, value=-1)
    return out


def _norm_back(grad: Tensor, x: Tensor, factor: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the factor, where y = RMSNorm(x) * factor; all float32."""
    width = x.shape[-1]
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = length.square_().div_(width).add_(eps).rsqrt_()
    unit = x * scale
    shared = grad * unit
    d_factor = shared.sum_to_size(factor.shape)
    along = shared.mul_(factor).mean(dim=-1, keepdim=True)
    d_x = torch.mul(grad, factor, out=shared).addcmul_(unit, along, value=-1)
    return d_x.mul_(scale), d_factor
