"""SAME's resampling blocks: patches to latent tokens and back, 16 patches and one token per latent.

All tokens of the signal lie in one buffer that the layers update in place, layer after layer, each
in tiles of rows: temporary memory does not grow with the signal, and a tile stays in the caches.

Letters: B batch, T latents, D width, A audio channels, P samples of a patch (256).

Source: arXiv 2605.18613 (SAME).
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .config import ResamplerConfig, SAMEConfig
from .layers import Gate, cast_to, rotary_table
from .ops import Ops, keep_freed_memory, packed_weights
from .same_layers import WINDOW_BLOCK, SAMELayer, WindowTile

OnTile = Callable[[], None]
Spans = list[tuple[int, int]]  # (start, stop)

# Values (rows times width) of one tile. Measured on a CPU: fewer leave the matrix units waiting
# for weights, more no longer fit into the caches. A GPU needs more to be busy.
CPU_TILE = 1088 * 768
GPU_TILE = 16 * CPU_TILE
PACKING_PAYS = 4000  # rows from which on laying a layer's weights out is the smaller work


def tile_rows(device: torch.device, width: int) -> int:
    """Token rows that one tile has at most."""
    return (CPU_TILE if device.type == "cpu" else GPU_TILE) // width


def even_spans(count: int, most: int) -> Spans:
    """Cut range(count) into as few spans of at most `most` as possible, all about as long."""
    step = math.ceil(count / math.ceil(count / max(1, most)))
    return [(at, min(at + step, count)) for at in range(0, count, step)]


class Resampler(nn.Module):
    """What encoder and decoder share: the token buffer and the transformer that works in it.

    Attributes:
        new_tokens: [1, 1, D].
        group: tokens of one latent (17).
        grid: latents that a cut of the signal must be a multiple of.
        margin: tokens of the buffer on each side, into which the shifted chunks reach.
        reach: tokens that window attention sees on each side (SAME-L), else 0.
    """

    def __init__(self, config: ResamplerConfig, stride: int, ops: Ops, device=None, dtype=None):
        super().__init__()
        self.config, self.stride, self.group = config, stride, stride + 1
        self.reach = (config.window or 0) * self.group
        self.new_tokens = nn.Parameter(torch.empty(1, 1, config.width, device=device, dtype=dtype))
        self.transformers = nn.ModuleList(
            SAMELayer(config.width, config.ff_mult, _gate(config, number), ops, device, dtype)
            for number in range(config.depth)
        )
        self.grid = config.grid(stride)
        self.margin = 0 if config.chunk is None else self.grid * self.group // 2

    def _layers(self) -> list[SAMELayer]:
        return [cast(SAMELayer, layer) for layer in self.transformers]

    def buffer(self, batch: int, latents: int, like: Tensor) -> Tensor:
        """Uninitialised tokens [B, margin + 17 * T + margin, D] of `like`'s dtype and device."""
        rows = latents * self.group + 2 * self.margin
        return like.new_empty(batch, rows, self.config.width)

    def groups(self, tokens: Tensor) -> Tensor:
        """View of the buffer's inner part as [B, T, 17, D]."""
        inner = tokens[:, self.margin : tokens.shape[1] - self.margin]
        return inner.unflatten(1, (-1, self.group))

    def spans(self, batch: int, latents: int, device: torch.device) -> list[Spans]:
        """The tiles of each layer: spans of chunks (SAME-S) or of tokens (SAME-L).

        Args:
            latents: T, on the grid.
        """
        depth, tokens = self.config.depth, latents * self.group
        rows = tile_rows(device, self.config.width) // batch
        if self.margin:
            chunk = 2 * self.margin
            first = even_spans(tokens // chunk, rows // chunk)
            second = even_spans(tokens // chunk + 1, rows // chunk)
            return [first] * (depth // 2) + [second] * (depth - depth // 2)
        # A tile is no shorter than the reach, so that it only sees its direct neighbours.
        unit = WINDOW_BLOCK * math.ceil(self.reach / WINDOW_BLOCK)
        blocks = even_spans(math.ceil(tokens / unit), rows // unit)
        return [[(a * unit, min(b * unit, tokens)) for a, b in blocks]] * depth

    def tiles(self, batch: int, latents: int, device: torch.device) -> int:
        """How often `transform` calls `on_tile`."""
        return sum(map(len, self.spans(batch, latents + -latents % self.grid, device)))

    def transform(self, tokens: Tensor, on_tile: OnTile) -> None:
        """Run all layers on the token buffer, in place."""
        if tokens.is_cpu:
            keep_freed_memory()
        latents = (tokens.shape[1] - 2 * self.margin) // self.group
        spans = self.spans(tokens.shape[0], latents, tokens.device)
        run = self._transform_chunks if self.margin else self._transform_windows
        run(tokens, spans, on_tile)

    def _transform_chunks(self, tokens: Tensor, spans: list[Spans], on_tile: OnTile) -> None:
        """First half on aligned chunks, second half on chunks shifted by half a chunk."""
        half = self.margin
        inner, first = tokens[:, half:-half], self.config.depth // 2
        for number, layer in enumerate(self._layers()):
            if number == first:  # what the shifted chunks see beyond the ends
                tokens[:, :half] = inner[:, :half]
                tokens[:, -half:] = inner[:, -half:]
            chunks = (inner if number < first else tokens).unflatten(1, (-1, 2 * half))
            table = rotary_table(layer.rope.inv_freq, 2 * half, tokens.device)
            with self._packed(layer, spans[number], len(tokens) * 2 * half):
                for start, stop in spans[number]:
                    layer.update_chunks(chunks[:, start:stop], table)
                    on_tile()

    def _transform_windows(self, tokens: Tensor, spans: list[Spans], on_tile: OnTile) -> None:
        """Every layer over the whole sequence, tile after tile."""
        total, reach = tokens.shape[1], self.reach
        tiles = [WindowTile(start, stop, total, reach) for start, stop in spans[0]]
        longest = max(tile.high - tile.low for tile in tiles)
        for layer, (cos, sin) in zip(self._layers(), self._tables(longest, tokens), strict=True):
            left = tokens[:, :0]
            with self._packed(layer, spans[0], len(tokens)):
                for tile in tiles:
                    around = torch.cat([left, tokens[:, tile.start : tile.high]], 1)
                    left = tokens[:, tile.stop - reach : tile.stop].clone()  # not yet updated
                    table = cos[: tile.high - tile.low], sin[: tile.high - tile.low]
                    layer.update_window(tokens[:, tile.start : tile.stop], around, tile, table)
                    on_tile()

    def _tables(self, length: int, like: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each layer's rotary table for positions 0..length, on the device of `like`.

        Only distances count, so each tile counts from its own start. Angles are exact: a chunk of
        a signal is to come out as in the whole, wherever the tiles begin. They are computed on the
        CPU, for all layers after one look at their frequencies, which are usually the same.
        """
        known = torch.stack([layer.rope.inv_freq.to(like.device) for layer in self._layers()]).cpu()
        keys = [tuple(values.tolist()) for values in known]
        made: dict[tuple[float, ...], tuple[Tensor, Tensor]] = {}
        for key, values in zip(keys, known, strict=True):
            if key not in made:
                made[key] = rotary_table(values, length, like.device, exact=True)
        return [made[key] for key in keys]

    def _packed(self, layer: SAMELayer, spans: Spans, unit: int) -> AbstractContextManager[None]:
        """The layer's weights laid out for its tiles, where they have rows enough.

        Args:
            spans: the layer's tiles.
            unit: rows of the whole batch that one step of a span stands for.
        """
        if spans[-1][1] * unit < PACKING_PAYS:
            return nullcontext()
        return packed_weights(layer, (spans[0][1] - spans[0][0]) * unit)

    def mapping_spans(self, batch: int, latents: int, device: torch.device) -> Spans:
        """Spans of latents in which the mapping convolution is computed."""
        return even_spans(latents, tile_rows(device, self.config.width) // (batch * self.stride))


def _gate(config: ResamplerConfig, number: int) -> Gate:
    """The gate function of a layer: the last `sinusoidal - 1` use sin(pi x)."""
    return "sin" if config.depth - number < config.sinusoidal else "silu"


class EncoderBlock(Resampler):
    """Audio to latent tokens."""

    def __init__(self, config: SAMEConfig, ops: Ops, device=None, dtype=None) -> None:
        super().__init__(config.encoder, config.stride, ops, device, dtype)
        if config.encoder.kernel != 1:
            raise ConfigError(
                f"The encoder's mapping has {config.encoder.kernel} taps; 1 is implemented, as in "
                "every published SAME."
            )
        self.patch = config.patch
        sizes = config.encoder.channels, config.encoder.width, 1
        self.mapping = ops.Conv1d(*sizes, device=device, dtype=dtype)

    def forward(self, audio: Tensor, on_tile: OnTile) -> Tensor:
        """Audio [B, A, N] -> latent tokens [B, ceil(N / 4096), D]; zeros follow the audio."""
        latents = -(-audio.shape[-1] // (self.patch * self.stride))
        tokens = self.buffer(audio.shape[0], latents + -latents % self.grid, audio)
        groups = self.groups(tokens)
        self._from_audio(audio, groups)
        self.transform(tokens, on_tile)
        return groups[:, :latents, self.stride]

    def _from_audio(self, audio: Tensor, groups: Tensor) -> None:
        """Fill groups [B, T on the grid, 17, D] with mapped patches and the new tokens."""
        hop = self.patch * self.stride
        groups[:, :, self.stride] = cast_to(self.new_tokens, audio)
        for start, stop in self.mapping_spans(audio.shape[0], groups.shape[1], audio.device):
            part = audio[..., start * hop : stop * hop]
            part = F.pad(part, (0, (stop - start) * hop - part.shape[-1]))
            # "b c (l h) -> b (c h) l": channel-major patches
            patches = part.unflatten(-1, (-1, self.patch)).transpose(2, 3).flatten(1, 2)
            mapped = self.mapping(patches).transpose(1, 2)
            groups[:, start:stop, : self.stride] = mapped.unflatten(1, (-1, self.stride))


class DecoderBlock(Resampler):
    """Latent tokens to audio."""

    def __init__(self, config: SAMEConfig, ops: Ops, device=None, dtype=None) -> None:
        super().__init__(config.decoder, config.stride, ops, device, dtype)
        self.patch, self.audio_channels = config.patch, config.audio_channels
        sizes = config.decoder.width, config.decoder.channels, config.decoder.kernel
        self.mapping = ops.Conv1d(*sizes, padding=sizes[2] // 2, device=device, dtype=dtype)

    def forward(self, x: Tensor, noise: Tensor | None, on_tile: OnTile) -> Tensor:
        """Latent tokens [B, T, D] -> audio [B, A, 4096 * T] float32.

        Args:
            noise: [B, T on the grid, 16, D] of unit variance for the new tokens, or None.
        """
        latents = x.shape[1]
        tokens = self.buffer(x.shape[0], latents + -latents % self.grid, x)
        groups = self.groups(tokens)
        groups[:, :latents, 0] = x
        groups[:, latents:, 0] = 0
        groups[:, :, 1:] = cast_to(self.new_tokens, x)
        if noise is not None:
            groups[:, :, 1:] += cast_to(noise, x) * self.config.mask_noise
        self.transform(tokens, on_tile)
        return self._to_audio(groups, latents)

    def _to_audio(self, groups: Tensor, latents: int) -> Tensor:
        """Map tokens [B, T on the grid, 17, D] to audio [B, A, 4096 * latents] float32."""
        batch, padded = groups.shape[:2]
        size = batch, self.audio_channels, latents * self.stride, self.patch
        audio = groups.new_empty(size, dtype=torch.float32)
        seen = self.config.kernel // 2  # latents on each side that a tap can reach into
        for start, stop in self.mapping_spans(batch, latents, groups.device):
            low, high = max(0, start - seen), min(padded, stop + seen)
            patches = groups[:, low:high, 1:].flatten(1, 2).transpose(1, 2).contiguous()
            first = (start - low) * self.stride
            mapped = self.mapping(patches)[..., first : first + (stop - start) * self.stride]
            # "b (c h) l -> b c l h"
            mapped = mapped.unflatten(1, (self.audio_channels, self.patch)).transpose(2, 3)
            audio[:, :, start * self.stride : stop * self.stride] = mapped
        return audio.flatten(2)
