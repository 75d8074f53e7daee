"""Attention, always mathematically exact and never with an N x N mask.

Shapes: q, k, v [B, H, N, 64]. A differential layer computes attn(q, k, v) - attn(q', k', v); both
halves go through one call by stacking them along the heads.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .flash import flash_attend, flash_usable


def split_heads(x: Tensor, parts: int, head_dim: int) -> tuple[Tensor, ...]:
    """[B, N, parts * H * head_dim] -> `parts` tensors [B, H, N, head_dim]."""
    b, n, width = x.shape
    heads = width // (parts * head_dim)
    return x.view(b, n, parts, heads, head_dim).permute(2, 0, 3, 1, 4).unbind(0)


def merge_heads(x: Tensor) -> Tensor:
    """[B, H, N, head_dim] -> [B, N, H * head_dim]."""
    return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(head_dim) + bias) v.

    Args:
        q: [B, H, N, head_dim].
        k: [B, H, M, head_dim].
        v: [B, H, M, head_dim].
        bias: None, bool (True = attended) or additive float, broadcastable to [B, H, N, M].

    Returns:
        [B, H, N, head_dim].
    """
    if bias is None and flash_usable(q):
        return flash_attend(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def attend_difference(
    q: tuple[Tensor, Tensor], k: tuple[Tensor, Tensor], v: Tensor, bias: Tensor | None = None
) -> Tensor:
    """attn(q, k, v) - attn(q', k', v) in one call.

    Source: arXiv 2605.17991 and 2605.18613, differential attention without a learned lambda.
    """
    both = attend(torch.cat(q, 1), torch.cat(k, 1), torch.cat([v, v], 1), bias)
    plus, minus = both.chunk(2, dim=1)
    return plus - minus


def attend_weighted(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attention to few keys, each standing for exp(bias) equal ones.

    Shapes as `attend`; bias is float32 [B, 1, 1, M]. It stays float32 in half precision, where
    rounding log(count) would change a key's weight by percents.
    """
    if bias is None or q.dtype == torch.float32:
        return attend(q, k, v, bias)
    scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1]) + bias
    return scores.softmax(dim=-1).to(v.dtype) @ v


def key_mask(mask: Tensor | None, always: int, device: torch.device) -> Tensor | None:
    """Turn a frame mask into a key mask with `always` leading tokens that are never masked.

    Args:
        mask: bool [B, T], True = valid, or None.

    Returns:
        bool [B, 1, 1, always + T], or None when nothing is masked.
    """
    if mask is None or bool(mask.all()):
        return None
    return F.pad(mask.to(device), (always, 0), value=True)[:, None, None, :]


def fold_windows(x: Tensor, n: int, block: int, reach: int, before: int) -> Tensor:
    """Cut keys or values into overlapping blocks, one per block of queries, without copying.

    Args:
        x: [B, before + n + after, H, d], the n tokens of the queries and their neighbours.
        n: number of queries.
        block: queries of one block.
        reach: tokens that a query sees on each side.
        before: how many of x's tokens lie in front of the first query, at most `reach`.

    Returns:
        [B * blocks, H, block + 2 * reach, d]; what x does not hold is zero (and must be masked).
        A view of x's memory when B is 1 and nothing had to be filled up.
    """
    blocks = math.ceil(n / block)
    lead = reach - before
    fill = blocks * block + 2 * reach - lead - x.shape[1]
    if lead or fill > 0:
        x = F.pad(x, (0, 0, 0, 0, lead, max(fill, 0)))
    x = x[:, : blocks * block + 2 * reach]
    windows = x.unfold(1, block + 2 * reach, block)  # [B, blocks, H, d, block + 2 reach]
    return windows.transpose(3, 4).flatten(0, 1)


def window_bias(n: int, block: int, reach: int, before: int, after: int) -> Tensor:
    """Which folded keys each query may see, for `fold_windows` of n queries.

    Returns:
        Bool [blocks, 1, block, block + 2 * reach] on the CPU, or [1, 1, ...] when all blocks agree.
    """
    blocks = math.ceil(n / block)
    query = torch.arange(block)[:, None] + reach
    key = torch.arange(block + 2 * reach)[None]
    band = (query - key).abs() <= reach
    if before == after == reach and n == blocks * block:
        return band[None, None]
    position = torch.arange(blocks)[:, None] * block + key - reach
    inside = (position >= -before) & (position < n + after)
    # Queries that are themselves filling keep their band: an empty row would give NaN.
    filling = torch.arange(blocks * block).view(blocks, block) >= n
    return ((band[None] & inside[:, None, :]) | (band[None] & filling[..., None]))[:, None]
