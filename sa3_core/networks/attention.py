"""Attention, always mathematically exact and never with an N x N mask.

flash-attn is an optional faster backend on CUDA in half precision.

Shapes: q, k, v [B, H, N, 64]. A differential layer computes attn(q, k, v) - attn(q', k', v); both
halves go through one call by stacking them along the heads.
"""

import functools
import importlib.util
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops import amx_multiplies_bfloat16

BFLOAT16_PAYS = amx_multiplies_bfloat16()  # a constant: compilers trace what asks for it


@dataclass(frozen=True)
class KeyMask:
    """Which of the N tokens of each item may be attended.

    Attributes:
        valid: bool [B, 1, 1, N].
        segments: int32 [2 B + 1], or None where flash-attn does not run: all items laid end to
            end, cut after each one's valid tokens and after its padding.
    """

    valid: Tensor
    segments: Tensor | None = None


def compute_dtype(x: Tensor) -> torch.dtype:
    """What attention computes in for activations x: their dtype, on a CPU always float32.

    There torch's half-precision attention is slower than that in float32, and less exact.
    """
    return torch.float32 if x.is_cpu else x.dtype


def frames_dtype(x: Tensor, halves: int) -> torch.dtype:
    """What attention among frames computes in: as `compute_dtype`, but with AMX bfloat16 stays.

    There it takes half of float32's time for long pieces, and the latents keep their distance from
    those in float32 (40.7 dB either way). The difference of two halves would lose more.

    Args:
        x: activations.
        halves: 2 for differential attention.
    """
    if BFLOAT16_PAYS and x.dtype == torch.bfloat16 and halves == 1 and not torch.is_grad_enabled():
        return x.dtype
    return compute_dtype(x)


def heads_first(x: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, N, halves, H, 64] -> [B, halves * H, N, 64] in `dtype`."""
    return x.to(dtype).flatten(2, 3).transpose(1, 2)


def merge_heads(x: Tensor, halves: int, dtype: torch.dtype) -> Tensor:
    """[B, halves * H, N, 64] -> [B, N, H * 64] in `dtype`; of two halves the difference.

    Source: arXiv 2605.17991 and 2605.18613, differential attention without a learned lambda.
    """
    if halves == 2:
        plus, minus = x.chunk(2, dim=1)
        x = plus - minus
    return x.transpose(1, 2).flatten(2).to(dtype)


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


def attend_valid(q: Tensor, k: Tensor, v: Tensor, keys: KeyMask | None) -> Tensor:
    """Attention of the N tokens of each item among themselves, to valid ones; all [B, H, N, 64].

    What comes out for padding has no meaning: it is not the same with flash-attn and without.
    """
    if keys is None:
        return attend(q, k, v)
    if keys.segments is not None:
        return flash_attend_segments(q, k, v, keys.segments)
    return attend(q, k, v, keys.valid)


def attend_halves(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """attn(q, k, v) - attn(q', k', v) of many short sequences.

    In float32 the probabilities are subtracted, so that only one product with v is left; half
    precision would round them.

    Args:
        q, k: [M, 2, H, N, 64], the halves in the second dimension.
        v: [M, H, N, 64].

    Returns:
        [M, H, N, 64].

    Source: arXiv 2605.18613, differential attention without a learned lambda.
    """
    m, _, h, n, d = q.shape
    if q.dtype != torch.float32:
        both = attend(q.flatten(1, 2), k.flatten(1, 2), v.repeat(1, 2, 1, 1))
        plus, minus = both.chunk(2, dim=1)
        return plus - minus
    keys, nothing = k.flatten(0, 2).transpose(1, 2), q.new_empty(1, 1, 1)
    scores = torch.baddbmm(nothing, q.flatten(0, 2), keys, beta=0, alpha=d**-0.5)
    plus, minus = scores.softmax(dim=-1).view(m, 2, h * n, n).unbind(1)
    return torch.bmm((plus - minus).view(m * h, n, n), v.flatten(0, 1)).view(m, h, n, d)


def attend_weighted(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attention to few keys, each standing for exp(bias) equal ones.

    Shapes as `attend`; bias is float32 [B, 1, 1, M]. It stays float32 in half precision, where
    rounding log(count) would change a key's weight by percents.
    """
    if bias is None or q.dtype == torch.float32:
        return attend(q, k, v, bias)
    scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1]) + bias
    return scores.softmax(dim=-1).to(v.dtype) @ v


def key_mask(mask: Tensor | None, always: int, like: Tensor) -> KeyMask | None:
    """Turn a frame mask into a key mask with `always` leading tokens that are never masked.

    Args:
        mask: bool [B, T] or [1, T], True = valid, or None.
        always: number of leading tokens.
        like: a tensor of B items on the device and in the dtype of the computation.

    Returns:
        For always + T tokens, or None when there is no mask.
    """
    if mask is None:
        return None
    keys = F.pad(mask, (always, 0), value=True)
    # Laid end to end an item must be its valid tokens, then its padding, without holes.
    whole = not bool((keys[:, 1:] > keys[:, :-1]).any())
    segments = _segments(keys, like) if whole and flash_usable(like) else None
    return KeyMask(keys.to(like.device)[:, None, None, :], segments)


def _segments(keys: Tensor, like: Tensor) -> Tensor:
    """KeyMask.segments of bool [B or 1, N]."""
    batch, n = like.shape[0], keys.shape[1]
    start = torch.arange(batch + 1, device=keys.device) * n
    end = start[:-1] + keys.sum(dim=1)
    both = torch.cat([torch.stack([start[:-1], end], dim=1).flatten(), start[-1:]])
    return both.to(like.device, torch.int32)


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


@functools.cache
def _flash_installed() -> bool:
    return importlib.util.find_spec("flash_attn") is not None


def flash_usable(q: Tensor) -> bool:
    """True when flash-attn is installed and q is a half-precision CUDA tensor.

    Not asked while a compiler traces: it cannot look for packages, and torch's own attention runs
    the same kernels.
    """
    if torch.compiler.is_compiling():
        return False
    return q.is_cuda and q.dtype in (torch.float16, torch.bfloat16) and _flash_installed()


def flash_attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Unmasked attention through flash-attn; shapes as `attend`."""
    from flash_attn import flash_attn_func  # pyright: ignore[reportMissingImports]

    out = flash_attn_func(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2)


def flash_attend_segments(q: Tensor, k: Tensor, v: Tensor, segments: Tensor) -> Tensor:
    """Attention within segments; q, k, v [B, H, N, 64], the B items laid end to end.

    Padding is a segment of its own, so nothing is packed or unpacked, and shapes depend on B and N
    alone.

    Args:
        q, k, v: queries, keys and values.
        segments: int32, where segments start and, as the last entry, B N; may repeat.
    """
    from flash_attn import flash_attn_varlen_func  # pyright: ignore[reportMissingImports]

    b, _, n, _ = q.shape
    rows = [x.transpose(1, 2).flatten(0, 1) for x in (q, k, v)]  # [B N, H, 64]
    out = flash_attn_varlen_func(*rows, segments, segments, n, n)
    return out.unflatten(0, (b, n)).transpose(1, 2)
