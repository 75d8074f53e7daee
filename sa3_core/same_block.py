"""SAME's resampling block: a transformer over groups of 16 frames and one latent token each.

The token buffer is updated in place, layer by layer and in pieces of rows, so that temporary memory
does not grow with the length of the signal and stays within the CPU's caches.

Letters: B batch, T latents, D width, H heads of 64 channels, E tokens per attention chunk (34).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import attend, fold_windows, window_bias
from .config import HEAD_DIM, ResamplerConfig
from .layers import DynamicTanh, Gate, GatedFeedForward, cast_to, rotary_table
from .ops import Ops

OnPiece = Callable[[], None]
Table = tuple[Tensor, Tensor]  # cosines and sines [N, 32]

WINDOW_BLOCK_REACHES = 2  # queries of one block of window attention, in units of the reach


def piece_rows(device: torch.device) -> int:
    """Token rows of one piece: enough to fill the matrix units, few enough for the caches."""
    return 544 if device.type == "cpu" else 8704


class RotaryFrequencies(nn.Module):
    """Holds `inv_freq` [16] of a layer, cast where it is used."""

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
        """[M, N, D] -> q, k, v of both halves, each [M, N, 2H, 64], q and k bent and rotated."""
        rows = self.to_qkv(x).unflatten(-1, (5, self.heads, HEAD_DIM))
        q = _bend_and_rotate(rows[:, :, 0::3], self.q_norm, table)
        k = _bend_and_rotate(rows[:, :, 1::3], self.k_norm, table)
        v = rows[:, :, 2:3].expand(-1, -1, 2, -1, -1)
        return q.flatten(2, 3), k.flatten(2, 3), v.flatten(2, 3)

    def merge(self, heads: Tensor) -> Tensor:
        """[M, 2H, N, 64] -> difference of the halves through `to_out`, [M, N, D]."""
        plus, minus = heads.transpose(1, 2).unflatten(2, (2, self.heads)).unbind(2)
        return self.to_out((plus - minus).flatten(2))


def _bend_and_rotate(x: Tensor, norm: DynamicTanh, table: Table) -> Tensor:
    """DyT, then RoPE on the first channels of each head: x [M, N, 2, H, 64].

    Both are affine once x is bent, so gain, shift and rotation are multiplied together first: they
    have N rows of 64 channels, x has M * 2H times as many.
    """
    cos, sin = table
    width, half = cos.shape[-1], cos.shape[-1] // 2
    bent, gain, shift = norm.bend(x)
    direct, base = gain.repeat(len(cos), 1), shift.repeat(len(cos), 1)  # [N, 64]
    direct[:, :width] *= cos
    base[:, :width] *= cos
    base[:, :half] -= shift[half:width] * sin[:, :half]
    base[:, half:width] += shift[:half] * sin[:, half:]
    out = torch.addcmul(base[:, None, None], bent, direct[:, None, None])
    crossed = -gain[half:width] * sin[:, :half], gain[:half] * sin[:, half:]
    out[..., :half].addcmul_(bent[..., half:width], crossed[0][:, None, None])
    out[..., half:width].addcmul_(bent[..., :half], crossed[1][:, None, None])
    return out.to(x.dtype)


class SAMELayer(nn.Module):
    """x += attention(dyt(x)); x += feed_forward(dyt(x)), in place on a piece of the tokens."""

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
        """Update x [B, M, E, D]; attention stays within each of the B * M chunks."""
        h = self.pre_norm(x).flatten(0, 1)
        q, k, v = (part.transpose(1, 2) for part in self.self_attn.project(h, table))
        x += self.self_attn.merge(attend(q, k, v)).view(x.shape)
        x += self.ff(self.ff_norm(x))

    def update_window(self, x: Tensor, around: Tensor, piece: "WindowPiece", table: Table) -> None:
        """Update x [B, N, D]; each token attends `reach` tokens to both sides.

        Args:
            x: the piece.
            around: the piece with its neighbours within reach, none of them updated yet.
            piece: where the piece lies.
            table: RoPE table of the tokens of `around`.
        """
        q, k, v = self.self_attn.project(self.pre_norm(around), table)
        x += self.self_attn.merge(piece.attend(q, k, v))
        x += self.ff(self.ff_norm(x))


class WindowPiece:
    """One piece [start, stop) of a sequence under sliding-window attention.

    Folded into blocks of queries, each with a halo of keys on both sides, so that no mask is larger
    than a block.

    Attributes:
        before, after: tokens of the neighbouring pieces within reach.
    """

    def __init__(self, start: int, stop: int, total: int, reach: int) -> None:
        self.start, self.stop, self.reach = start, stop, reach
        self.before, self.after = min(reach, start), min(reach, total - stop)
        self.block = WINDOW_BLOCK_REACHES * reach
        mask = window_bias(stop - start, self.block, reach, self.before, self.after)
        self.bias = torch.zeros(mask.shape).masked_fill_(~mask, -math.inf)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v [B, before + N + after, 2H, 64] -> [B, 2H, N, 64]."""
        b, n = q.shape[0], self.stop - self.start
        blocks = math.ceil(n / self.block)
        q = q[:, self.before : self.before + n]
        q = F.pad(q, (0, 0, 0, 0, 0, blocks * self.block - n))
        q = q.unflatten(1, (blocks, self.block)).flatten(0, 1).transpose(1, 2)
        k = fold_windows(k, n, self.block, self.reach, self.before)
        v = fold_windows(v, n, self.block, self.reach, self.before)
        self.bias = cast_to(self.bias, q)
        bias = self.bias if self.bias.shape[0] == 1 else self.bias.repeat(b, 1, 1, 1)
        out = attend(q, k, v, bias).transpose(1, 2)  # [B * blocks, block, 2H, 64]
        return out.unflatten(0, (b, blocks)).flatten(1, 2)[:, :n].transpose(1, 2)


class Resampler(nn.Module):
    """Base of the two resampling blocks: 16 frames and one latent token per group, transformer.

    Attributes:
        new_tokens: [1, 1, D].
        grid: latents that a cut of the signal must be a multiple of.
        halo: latents on each side that decide a latent's result, rounded up to the grid.
    """

    def __init__(self, config: ResamplerConfig, stride: int, ops: Ops, device=None, dtype=None):
        super().__init__()
        self.config, self.stride = config, stride
        self.group = stride + 1
        self.new_tokens = nn.Parameter(torch.empty(1, 1, config.width, device=device, dtype=dtype))
        self.transformers = nn.ModuleList(
            SAMELayer(config.width, config.ff_mult, gate, ops, device, dtype)
            for gate in _gates(config)
        )
        if config.window is None:
            assert config.chunk is not None
            self.grid = config.chunk // stride
            self.halo = self.grid
        else:
            self.grid = 1
            self.halo = config.depth * config.window + config.kernel // 2
        # Where the shifted chunks of the second half reach beyond the signal.
        self.margin = 0 if config.window is not None else self.grid * self.group // 2

    def buffer(self, batch: int, latents: int, like: Tensor) -> Tensor:
        """Token memory [B, margin + 17 * T + margin, D] of `like`'s dtype."""
        rows = latents * self.group + 2 * self.margin
        return like.new_empty(batch, rows, self.config.width)

    def groups(self, tokens: Tensor) -> Tensor:
        """View of the buffer's inner part as [B, T, 17, D]."""
        inner = tokens[:, self.margin : tokens.shape[1] - self.margin]
        return inner.unflatten(1, (-1, self.group))

    def transform(self, tokens: Tensor, on_piece: OnPiece) -> None:
        """Run all layers on the token buffer, in place."""
        if self.config.window is None:
            self._transform_chunks(tokens, on_piece)
        else:
            self._transform_windows(tokens, on_piece)

    def pieces(self, batch: int, latents: int, device: torch.device) -> int:
        """How often `transform` calls `on_piece`."""
        rows = (latents + -latents % self.grid) * self.group
        if self.config.window is not None:
            return self.config.depth * math.ceil(rows / self._window_rows(batch, device))
        chunk = 2 * self.margin
        step, first = self._chunk_step(batch, device), self.config.depth // 2
        return first * math.ceil(rows // chunk / step) + (self.config.depth - first) * math.ceil(
            (rows // chunk + 1) / step
        )

    def _chunk_step(self, batch: int, device: torch.device) -> int:
        return max(1, piece_rows(device) // (batch * 2 * self.margin))

    def _window_rows(self, batch: int, device: torch.device) -> int:
        unit = WINDOW_BLOCK_REACHES * self.group
        return max(1, piece_rows(device) // (batch * unit)) * unit

    def _transform_chunks(self, tokens: Tensor, on_piece: OnPiece) -> None:
        """First half on aligned chunks, second half on chunks shifted by half a chunk."""
        half = self.margin
        first = self.config.depth // 2
        step = self._chunk_step(tokens.shape[0], tokens.device)
        inner = tokens[:, half:-half]
        for number, layer in enumerate(self.transformers):
            if number == first:
                tokens[:, :half] = inner[:, :half]
                tokens[:, -half:] = inner[:, -half:]
            chunks = (inner if number < first else tokens).unflatten(1, (-1, 2 * half))
            table = rotary_table(layer.rope.inv_freq, 2 * half, tokens.device)
            for start in range(0, chunks.shape[1], step):
                layer.update_chunks(chunks[:, start : start + step], table)
                on_piece()

    def _transform_windows(self, tokens: Tensor, on_piece: OnPiece) -> None:
        """Every layer over the whole sequence, piece after piece."""
        total = tokens.shape[1]
        reach = self.config.window * self.group
        rows = self._window_rows(tokens.shape[0], tokens.device)
        pieces = [
            WindowPiece(start, min(start + rows, total), total, reach)
            for start in range(0, total, rows)
        ]
        for layer in self.transformers:
            cos, sin = rotary_table(layer.rope.inv_freq, total, tokens.device)
            left = tokens[:, :0]
            for piece in pieces:
                low, high = piece.start - piece.before, piece.stop + piece.after
                around = torch.cat([left, tokens[:, piece.start : high]], 1)
                left = tokens[:, piece.stop - reach : piece.stop].clone()
                layer.update_window(
                    tokens[:, piece.start : piece.stop],
                    around,
                    piece,
                    (cos[low:high], sin[low:high]),
                )
                on_piece()


def _gates(config: ResamplerConfig) -> list[Gate]:
    """The gate function of each layer: the last `sinusoidal - 1` use sin(pi x)."""
    return [
        "sin" if config.depth - number < config.sinusoidal else "silu"
        for number in range(config.depth)
    ]
