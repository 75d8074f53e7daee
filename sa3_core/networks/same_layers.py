"""SAME's transformer layer: differential attention in chunks or in a window, gated feed-forward.

Layers update a tile of the token buffer in place, so that temporary memory depends on the tile
and not on the signal.

Letters: B batch, M chunks, E tokens of a chunk (34), N tokens of a tile, D width, H heads.

Source: arXiv 2605.18613 (SAME).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import attend, attend_halves, fold_windows, window_bias
from .config import HEAD_DIM
from .layers import DynamicTanh, Gate, GatedFeedForward, cast_to, scale_and_rotate
from .ops import Ops

Table = tuple[Tensor, Tensor]  # RoPE cosines and sines, [tokens, 32] each

WINDOW_BLOCK = 32  # queries of one block of window attention: torch's own tile on a CPU


class RotaryFrequencies(nn.Module):
    """Holds `inv_freq` [16] of a layer, cast where it is used."""

    inv_freq: Tensor

    def __init__(self, channels: int, device=None) -> None:
        super().__init__()
        self.register_buffer("inv_freq", torch.empty(channels // 2, device=device))


class SAMEAttention(nn.Module):
    """Differential self-attention with DyT on queries and keys. `to_qkv` rows: q, k, v, q', k'."""

    def __init__(self, width: int, ops: Ops, device=None, dtype=None) -> None:
        super().__init__()
        self.heads = width // HEAD_DIM
        self.to_qkv = ops.Linear(width, 5 * width, bias=False, device=device, dtype=dtype)
        self.to_out = ops.Linear(width, width, bias=False, device=device, dtype=dtype)
        self.q_norm = DynamicTanh(HEAD_DIM, device, dtype)
        self.k_norm = DynamicTanh(HEAD_DIM, device, dtype)

    def project(self, x: Tensor, table: Table) -> tuple[Tensor, Tensor, Tensor]:
        """[M, N, D] -> q, k [M, 2, H, N, 64] of both halves, bent and rotated; v [M, N, H, 64]."""
        rows = self.to_qkv(x).unflatten(-1, (5, self.heads, HEAD_DIM))
        q = _bend_and_rotate(rows[:, :, 0::3], self.q_norm, table)
        k = _bend_and_rotate(rows[:, :, 1::3], self.k_norm, table)
        return q, k, rows[:, :, 2]


def _bend_and_rotate(x: Tensor, norm: DynamicTanh, table: Table) -> Tensor:
    """DyT, then RoPE on the first channels of each head: [M, N, 2, H, 64] -> [M, 2, H, N, 64]."""
    return scale_and_rotate(*norm.bend(x.permute(0, 2, 3, 1, 4)), table).to(x.dtype)


class WindowTile:
    """One tile [start, stop) of a sequence under sliding-window attention.

    Folded into blocks of queries, each with a halo of keys on both sides, so that no mask is larger
    than a block.

    Attributes:
        low, high: the tile with the neighbours that its tokens can see.
    """

    def __init__(self, start: int, stop: int, total: int, reach: int) -> None:
        self.start, self.stop, self.reach = start, stop, reach
        self.low, self.high = max(0, start - reach), min(total, stop + reach)
        self.blocks = math.ceil((stop - start) / WINDOW_BLOCK)
        before, after = start - self.low, self.high - stop
        mask = window_bias(stop - start, WINDOW_BLOCK, reach, before, after)
        self.bias = torch.zeros(mask.shape).masked_fill_(~mask, -math.inf)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v [B, high - low, 2H, 64] -> [B, stop - start, 2H, 64]."""
        b, n, before = q.shape[0], self.stop - self.start, self.start - self.low
        q = F.pad(q[:, before : before + n], (0, 0, 0, 0, 0, self.blocks * WINDOW_BLOCK - n))
        q = q.unflatten(1, (self.blocks, WINDOW_BLOCK)).flatten(0, 1)
        k = fold_windows(k, n, WINDOW_BLOCK, self.reach, before)
        v = fold_windows(v, n, WINDOW_BLOCK, self.reach, before)
        self.bias = cast_to(self.bias, q)  # once: the tile is used by every layer
        bias = self.bias if self.bias.shape[0] == 1 else self.bias.repeat(b, 1, 1, 1)
        out = attend(q.transpose(1, 2), k, v, bias).transpose(1, 2)  # [B * blocks, block, 2H, 64]
        return out.unflatten(0, (b, self.blocks)).flatten(1, 2)[:, :n]


class SAMELayer(nn.Module):
    """x += attention(dyt(x)); x += feed_forward(dyt(x)), in place on a tile of the tokens."""

    def __init__(
        self, width: int, mult: int, gate: Gate, ops: Ops, device=None, dtype=None
    ) -> None:
        super().__init__()
        self.pre_norm = DynamicTanh(width, device, dtype)
        self.self_attn = SAMEAttention(width, ops, device, dtype)
        self.ff_norm = DynamicTanh(width, device, dtype)
        self.ff = GatedFeedForward(width, mult, gate, ops, device, dtype)
        self.rope = RotaryFrequencies(HEAD_DIM // 2, device)

    def update_chunks(self, x: Tensor, table: Table) -> None:
        """Update x [B, M, E, D]; attention stays within each of the B * M chunks.

        Args:
            x: the tile.
            table: RoPE table for positions 0..E.
        """
        q, k, v = self.self_attn.project(self.pre_norm(x).flatten(0, 1), table)
        mixed = attend_halves(q, k, v.transpose(1, 2)).transpose(1, 2)
        del q, k, v  # the widest tensors of the layer
        x += self.self_attn.to_out(mixed.flatten(2)).view(x.shape)
        x += self.ff(self.ff_norm(x))

    def update_window(self, x: Tensor, around: Tensor, tile: WindowTile, table: Table) -> None:
        """Update x [B, N, D]; each token attends `tile.reach` tokens to both sides.

        Args:
            x: the tile.
            around: tokens low..high of the tile, none of them updated by this layer yet.
            tile: where the tile lies.
            table: RoPE table for positions 0 to the length of `around`.
        """
        q, k, v = self.self_attn.project(self.pre_norm(around), table)
        q, k = q.flatten(1, 2).transpose(1, 2), k.flatten(1, 2).transpose(1, 2)
        plus, minus = tile.attend(q, k, v.repeat(1, 1, 2, 1)).chunk(2, dim=2)
        x += self.self_attn.to_out((plus - minus).flatten(2))
        x += self.ff(self.ff_norm(x))
