"""The net's element-wise parts by autograd: what `networks.backward` must equal.

The benchmark of training computes the published way with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from sa3_core.networks import backward, layers


def gated(both: Tensor) -> Tensor:
    value, gate = both.chunk(2, dim=-1)
    return value * F.silu(gate)


def modulated(x: Tensor, factor: Tensor, shift: Tensor | None, eps: float) -> Tensor:
    out = F.rms_norm(x.float(), x.shape[-1:], eps=eps) * factor
    return out if shift is None else out + shift


def gate_added(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    return torch.addcmul(x, y, gate)


def rows_added(x: Tensor, y: Tensor, start: int) -> Tensor:
    stop = start + y.shape[1]
    return torch.cat([x[:, :start], x[:, start:stop] + y, x[:, stop:]], dim=1)


def attention_heads(
    rows: Tensor,
    gains: tuple[Tensor, Tensor],
    make: Callable[[Tensor], backward.Heads],
    rotary: backward.RotaryTable,
    eps: float,
) -> backward.Heads:
    return make(rows)


@contextmanager
def plain_ways() -> Iterator[None]:
    """Nets that are differentiated inside of this block go these ways."""
    with ExitStack() as stack:
        for work in (gated, modulated, gate_added, rows_added, attention_heads):
            for owner in (backward, layers):
                if hasattr(owner, work.__name__):
                    stack.enter_context(patch.object(owner, work.__name__, work))
        yield
