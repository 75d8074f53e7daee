"""The diffusion transformer: predicts the velocity v of a noisy latent.

Everything that is constant over a generation (context keys and values, local conditioning, duration
embedding, rotary table, masks) is computed once by `prepare`; `velocity` does only what depends on
x and t. Attribute names give the published state-dict keys (prefix `model.model.`).

Source: arXiv 2605.17991, sections on the diffusion transformer and inpainting conditioning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import backward
from .attention import (
    KeyMask,
    attend_valid,
    attend_weighted,
    compute_dtype,
    frames_dtype,
    heads_first,
    key_mask,
    merge_heads,
)
from .config import HEAD_DIM, DiTConfig
from .layers import (
    GatedFeedForward,
    RMSNorm,
    TwoLayer,
    cast_to,
    expo_fourier,
    rotary_table,
    scale_and_rotate,
)
from .ops import Ops, TorchOps, keep_freed_memory

BLOCK_EPS, HEAD_EPS = 1e-5, 1e-6
ROTARY_CHANNELS = 32

RotaryTable = tuple[Tensor, Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class CrossKeys:
    """Keys [B, H (2H differential), S, 64] and values of one block's cross-attention."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class DiTConstants:
    """What `DiffusionTransformer.prepare` computed for one generation.

    Attributes:
        global_embed: [B, D], the duration's share of the AdaLN input.
        cross: one CrossKeys per block.
        context_bias: additive float32 [B, 1, 1, S] or None.
        local: [blocks, B, T, D], or [blocks, 1, 1, D] when nothing is inpainted.
        rotary: cosines and sines for the memory tokens and T frames.
        frame_keys: the padding mask as a key mask over M + T tokens, or None.
        dtype: dtype that activations are computed in.
        spare: rows behind the M + T tokens that nobody attends to and whose result is dropped:
            CPU matrix libraries take up to half as long again for an odd number of rows.
        recompute: for training: a block keeps its input alone and runs again on the way back.
    """

    global_embed: Tensor
    cross: "Sequence[CrossKeys] | PerBlock[CrossKeys]"
    context_bias: Tensor | None
    local: "Tensor | PerBlock[Tensor]"
    rotary: RotaryTable
    frame_keys: KeyMask | None
    dtype: torch.dtype
    spare: int = 0
    recompute: bool = False


@dataclass(frozen=True)
class PerBlock(Generic[T]):
    """A block's share of the constants, computed when the block runs, as training needs it.

    Attributes:
        blocks: of the transformer.
        compute: the share of one of them.
    """

    blocks: "list[DiTBlock]"
    compute: "Callable[[DiTBlock], T]"

    def __getitem__(self, index: int) -> T:
        """The share of the block `index`."""
        return self.compute(self.blocks[index])


class SelfAttention(nn.Module):
    """Attention over memory tokens and frames; rows of `to_qkv`: [q, k, v] or [q, k, v, q', k']."""

    def __init__(self, config: DiTConfig, ops: Ops, device=None, dtype=None) -> None:
        super().__init__()
        width, self.halves = config.width, 2 if config.differential else 1
        self.rows = 2 * self.halves + 1, width // HEAD_DIM, HEAD_DIM
        self.to_qkv = ops.Linear(
            width, self.rows[0] * width, bias=False, device=device, dtype=dtype
        )
        self.to_out = ops.Linear(width, width, bias=False, device=device, dtype=dtype)
        self.q_norm = RMSNorm(HEAD_DIM, HEAD_EPS, device, dtype)
        self.k_norm = RMSNorm(HEAD_DIM, HEAD_EPS, device, dtype)

    def forward(self, x: Tensor, c: DiTConstants) -> Tensor:
        """x [B, N, D] -> [B, N, D]."""
        rows = self.to_qkv(x).unflatten(-1, self.rows)
        if torch.is_grad_enabled():
            gains = self.q_norm.gain(x), self.k_norm.gain(x)
            make = partial(self._heads, c=c)
            q, k, v = backward.attention_heads(rows, gains, make, c.rotary, HEAD_EPS)
        else:
            q, k, v = self._heads(rows, c)
        mixed = attend_valid(q, k, v, c.frame_keys)
        return self.to_out(merge_heads(mixed, self.halves, x.dtype))

    def _heads(self, rows: Tensor, c: DiTConstants) -> backward.Heads:
        """Queries, keys and values of `rows` [B, N, 3 or 5, H, 64]; spare tokens get no keys."""
        dtype = frames_dtype(rows, self.halves)
        q = _norm_and_rotate(rows[:, :, 0::3], self.q_norm, c.rotary).to(dtype)
        k = _norm_and_rotate(rows[:, :, 1::3], self.k_norm, c.rotary).to(dtype)
        v = heads_first(rows[:, :, 2:3].expand(-1, -1, self.halves, -1, -1), dtype)
        if c.spare:
            k, v = k[:, :, : -c.spare], v[:, :, : -c.spare]
        return q, k, v


def _norm_and_rotate(x: Tensor, norm: RMSNorm, rotary: RotaryTable) -> Tensor:
    """RMSNorm of each head, then RoPE: [B, N, halves, H, 64] -> [B, halves * H, N, 64] float32."""
    x = norm.normalised(x).flatten(2, 3).transpose(1, 2)
    return scale_and_rotate(x, norm.gain(x), None, rotary)


class CrossAttention(nn.Module):
    """Attention to the context; `to_q` rows [q] or [q, q'], `to_kv` rows [k, v] or [k, k', v]."""

    def __init__(self, config: DiTConfig, ops: Ops, device=None, dtype=None) -> None:
        super().__init__()
        width, self.halves = config.width, 2 if config.differential else 1
        self.head = width // HEAD_DIM, HEAD_DIM
        self.to_q = ops.Linear(width, self.halves * width, bias=False, device=device, dtype=dtype)
        rows = (self.halves + 1) * width
        self.to_kv = ops.Linear(width, rows, bias=False, device=device, dtype=dtype)
        self.to_out = ops.Linear(width, width, bias=False, device=device, dtype=dtype)
        self.q_norm = RMSNorm(HEAD_DIM, HEAD_EPS, device, dtype)
        self.k_norm = RMSNorm(HEAD_DIM, HEAD_EPS, device, dtype)

    def prepare(self, context: Tensor) -> CrossKeys:
        """Keys and values of the embedded context [B, S, D]."""
        rows, dtype = self.to_kv(context).unflatten(-1, (-1, *self.head)), compute_dtype(context)
        keys = heads_first(self.k_norm(rows[:, :, : self.halves]), dtype)
        values = rows[:, :, self.halves :].expand(-1, -1, self.halves, -1, -1)
        return CrossKeys(keys.contiguous(), heads_first(values, dtype).contiguous())

    def forward(self, x: Tensor, cross: CrossKeys, bias: Tensor | None) -> Tensor:
        """x [B, N, D] -> [B, N, D]."""
        q = self.q_norm(self.to_q(x).unflatten(-1, (self.halves, *self.head)))
        q = heads_first(q, compute_dtype(x))
        out = attend_weighted(q, cross.keys, cross.values, bias)
        return self.to_out(merge_heads(out, self.halves, x.dtype))


class DiTBlock(nn.Module):
    """Self-attention, cross-attention, local conditioning, feed-forward, with AdaLN gates."""

    def __init__(self, config: DiTConfig, ops: Ops, device=None, dtype=None) -> None:
        super().__init__()
        width, self.memory_tokens = config.width, config.memory_tokens
        self.pre_norm = RMSNorm(width, BLOCK_EPS, device, dtype)
        self.self_attn = SelfAttention(config, ops, device, dtype)
        self.cross_attend_norm = RMSNorm(width, BLOCK_EPS, device, dtype)
        self.cross_attn = CrossAttention(config, ops, device, dtype)
        self.ff_norm = RMSNorm(width, BLOCK_EPS, device, dtype)
        self.ff = GatedFeedForward(width, config.ff_mult, "silu", ops, device, dtype)
        self.to_scale_shift_gate = nn.Parameter(torch.empty(6 * width, device=device, dtype=dtype))
        self.to_local_embed = TwoLayer(
            (config.local_channels, width, width), True, ops, device, dtype
        )

    def forward(self, x: Tensor, modulation: Tensor, c: DiTConstants, index: int) -> Tensor:
        """Update x, in place where nothing is recorded for a backward pass.

        Args:
            x: [B, N, D] float32: the sum over blocks keeps its precision whatever they compute in.
            modulation: [B, 6D] float32.
            c: constants of the generation.
            index: picks the block's share of them.
        """
        parts = modulation + cast_to(self.to_scale_shift_gate, modulation)
        scale_a, shift_a, gate_a, scale_f, shift_f, gate_f = parts[:, None].chunk(6, dim=-1)
        h = _modulate(x, self.pre_norm, scale_a, shift_a).to(c.dtype)
        x = _add_gated(x, self.self_attn(h, c), gate_a)
        h = self.cross_attend_norm(x).to(c.dtype)
        x = _add(x, self.cross_attn(h, c.cross[index], c.context_bias))
        x = self._add_local(x, c.local[index], c.spare)
        h = _modulate(x, self.ff_norm, scale_f, shift_f).to(c.dtype)
        return _add_gated(x, self.ff(h), gate_f)

    def _add_local(self, x: Tensor, local: Tensor, spare: int) -> Tensor:
        """Add the local conditioning to the frames; memory tokens get nothing."""
        stop = x.shape[1] - spare
        if not torch.is_grad_enabled():
            x[:, self.memory_tokens : stop] += local
            return x
        local = local.expand(-1, stop - self.memory_tokens, -1)
        return backward.rows_added(x, local, self.memory_tokens)


def _add(x: Tensor, y: Tensor) -> Tensor:
    return x + y if torch.is_grad_enabled() else x.add_(y)


def _add_gated(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """x + y * sigmoid(1 - gate)."""
    gate = torch.sigmoid(1 - gate)
    return backward.gate_added(x, y, gate) if torch.is_grad_enabled() else x.addcmul_(y, gate)


def _modulate(x: Tensor, norm: RMSNorm, scale: Tensor, shift: Tensor) -> Tensor:
    """AdaLN: norm(x) * (1 + scale) + shift; x [B, N, D], scale and shift [B, 1, D], float32."""
    factor = norm.gain(x) * (1 + scale)
    if torch.is_grad_enabled():
        return backward.modulated(x, factor, shift, norm.eps)
    return norm.normalised(x).mul_(factor).add_(shift)


class _RotaryFrequencies(nn.Module):
    inv_freq: Tensor

    def __init__(self, device=None) -> None:
        super().__init__()
        shape = (ROTARY_CHANNELS // 2,)
        self.register_buffer("inv_freq", torch.empty(shape, dtype=torch.float32, device=device))


class Transformer(nn.Module):
    """The blocks with their projections; holds the published `transformer.` keys."""

    def __init__(self, config: DiTConfig, ops: Ops, device=None, dtype=None) -> None:
        super().__init__()
        width = config.width
        kw = {"device": device, "dtype": dtype}
        self.project_in = ops.Linear(config.channels, width, bias=False, **kw)
        self.project_out = ops.Linear(width, config.channels, bias=False, **kw)
        self.memory_tokens = nn.Parameter(torch.empty(config.memory_tokens, width, **kw))
        self.rotary_pos_emb = _RotaryFrequencies(device)
        self.global_cond_embedder = TwoLayer((width, width, 6 * width), True, ops, **kw)
        self.layers = nn.ModuleList(DiTBlock(config, ops, **kw) for _ in range(config.depth))


class DiffusionTransformer(nn.Module):
    """Velocity of a noisy latent x_t = (1 - t) data + t noise, t = 1 noise.

    Args:
        config: sizes.
        ops: layer classes (torch.nn's by default).
        device, dtype: of the parameters; pass device="meta" before assigning loaded weights.
    """

    def __init__(self, config: DiTConfig, ops: Ops = TorchOps, device=None, dtype=None) -> None:
        super().__init__()
        self.config = config
        self.dtype = dtype or torch.float32
        width = config.width
        kw = {"device": device, "dtype": dtype}
        self.to_timestep_embed = TwoLayer((config.time_features, width, width), True, ops, **kw)
        self.to_cond_embed = TwoLayer((config.cond_width, width, width), False, ops, **kw)
        self.to_global_embed = TwoLayer((config.cond_width, width, width), False, ops, **kw)
        self.preprocess_conv = ops.Conv1d(config.channels, config.channels, 1, bias=False, **kw)
        self.postprocess_conv = ops.Conv1d(config.channels, config.channels, 1, bias=False, **kw)
        self.transformer = Transformer(config, ops, **kw)

    def prepare(
        self,
        context: Tensor,
        context_bias: Tensor | None,
        global_cond: Tensor,
        local_cond: Tensor | None,
        padding_mask: Tensor | None,
        frames: int,
        per_block: bool = False,
    ) -> DiTConstants:
        """Compute what is constant over a generation.

        Args:
            context: [B, S, cond width]; its dtype and device are those of the computation.
            context_bias: [B, S] float32 added to the attention scores of each context token
                (log of how many equal tokens it stands for; -inf = absent), or None.
            global_cond: [B, cond width], the duration embedding.
            local_cond: [B, 1 + C, T] mask and masked source, or None when nothing is given
                (equal to zeros, which still pass through the biases).
            padding_mask: bool [B, T] or [1, T], True = valid, or None when every frame is.
            frames: T.
            per_block: leave each block's share to the block, when it runs.
        """
        if context.is_cpu:
            keep_freed_memory()
        dtype, blocks = context.dtype, cast("list[DiTBlock]", self.transformer.layers)
        embedded = self.to_cond_embed(context)
        if local_cond is None:
            source = context.new_zeros(1, 1, self.config.local_channels)
        else:
            source = local_cond.to(context).transpose(1, 2)
        total = self.config.memory_tokens + frames
        spare = context.shape[0] * total % 2 if context.is_cpu else 0
        inv_freq = self.transformer.rotary_pos_emb.inv_freq
        return DiTConstants(
            global_embed=self.to_global_embed(global_cond.to(context)),
            cross=PerBlock(blocks, lambda block: block.cross_attn.prepare(embedded))
            if per_block
            else [block.cross_attn.prepare(embedded) for block in blocks],
            context_bias=None
            if context_bias is None
            else context_bias.to(context.device, torch.float32)[:, None, None, :],
            local=PerBlock(blocks, lambda block: block.to_local_embed(source))
            if per_block
            else self._local_rows(source),
            rotary=rotary_table(inv_freq, total + spare, context.device),
            frame_keys=key_mask(padding_mask, self.config.memory_tokens, context),
            dtype=dtype,
            spare=spare,
        )

    def _local_rows(self, source: Tensor) -> Tensor:
        """Local conditioning [B, T, 1 + C] embedded by every block: [blocks, B, T, D].

        In one array: tensors of their own, made between what their layers need for a moment, leave
        as much again in gaps of a CPU's heap.
        """
        blocks = cast("list[DiTBlock]", self.transformer.layers)
        rows = source.new_empty(len(blocks), *source.shape[:2], self.config.width)
        for into, block in zip(rows, blocks, strict=True):
            into.copy_(block.to_local_embed(source))
        return rows

    def velocity(self, x: Tensor, t: Tensor, constants: DiTConstants) -> Tensor:
        """Predict v.

        Args:
            x: [B, C, T], any float dtype; computed in `constants.dtype`.
            t: [B], kept in float32 through its Fourier features.

        Returns:
            [B, C, T] in x's dtype.
        """
        return self.velocity_at(x, expo_fourier(t, self.config.time_features), constants)

    def velocity_at(self, x: Tensor, time_features: Tensor, constants: DiTConstants) -> Tensor:
        """As `velocity`, given the Fourier features [B, time_features] float32 of t.

        Apart, so that a compiler gets only this: it would reorder the products inside the
        features, which their large arguments do not forgive.
        """
        dtype, net = constants.dtype, self.transformer
        h = x.to(dtype)
        h = (self.preprocess_conv(h) + h).transpose(1, 2)
        h = net.project_in(h).float()  # [B, T, D]
        memory = cast_to(net.memory_tokens, h).expand(h.shape[0], -1, -1)
        spare = h.new_zeros(h.shape[0], constants.spare, h.shape[2])
        h = torch.cat([memory, h, spare], dim=1)  # [B, M + T + spare, D]
        time = self.to_timestep_embed(time_features.to(dtype))
        modulation = net.global_cond_embedder(constants.global_embed + time).float()  # [B, 6D]
        for index, block in enumerate(net.layers):
            if constants.recompute:
                h = cast(
                    Tensor,
                    checkpoint(block, h, modulation, constants, index, use_reentrant=False),
                )
            else:
                h = block(h, modulation, constants, index)
        frames = slice(self.config.memory_tokens, h.shape[1] - constants.spare)
        out = net.project_out(h[:, frames].to(dtype)).transpose(1, 2)
        return (self.postprocess_conv(out) + out).to(x.dtype)
