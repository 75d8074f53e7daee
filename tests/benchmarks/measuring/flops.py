"""The floating-point operations that Stable Audio 3 cannot do without.

Two per multiply-add of every matmul, convolution and attention over valid frames and real tokens;
what is constant in a generation counts once. Element-wise work is not counted.

D width, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sa3_core.networks.config import DiTConfig, ResamplerConfig, SAMEConfig
from sa3_core.text.conditioning import TEXT_WIDTH
from sa3_core.text.encoder_file import EncoderConfig


def dit_step(config: DiTConfig, frames: int, context: int) -> float:
    """One velocity of one item.

    Args:
        config: sizes.
        frames: valid latent frames.
        context: different tokens of the context (prompt, one padding token, duration).
    """
    width, channels = config.width, config.channels
    blocks = config.depth * (
        _dense(_of_tokens(config, frames)) + _attended(config, frames, context)
    )
    ends = 2 * frames * (channels * channels + channels * width)
    time = config.time_features * width + width * width + 7 * width * width  # AdaLN included
    return 2.0 * (blocks + ends + time)


def dit_constants(config: DiTConfig, context: int) -> float:
    """What one generation computes once: context keys and values, local and global embedding."""
    width, cond, pairs = config.width, config.cond_width, 2 if config.differential else 1
    embedded = context * (cond * width + width * width)
    keys = config.depth * context * (pairs + 1) * width * width
    local = config.depth * (config.local_channels * width + width * width)
    duration = config.time_features * cond + cond * width + width * width
    return 2.0 * (embedded + keys + local + duration)


def generation(config: DiTConfig, frames: int, prompt: int, steps: int) -> float:
    """A generation of one item without guidance and inpainting."""
    context = prompt + 2
    return steps * dit_step(config, frames, context) + dit_constants(config, context)


@dataclass(frozen=True)
class TrainingFlops:
    """Of a training step.

    Attributes:
        layers: products of the blocks' frozen layers with all tokens.
        others: attention, adapters, conditioning, ends.
    """

    layers: float
    others: float

    @property
    def total(self) -> float:
        """Of the whole step."""
        return self.layers + self.others


def training_step(
    config: DiTConfig, frames: int, context: int, rank: int, recompute: bool
) -> TrainingFlops:
    """A step of a LoRA on every layer, of one item: forward, and back to inputs and adapters.

    Weights get no gradient. Both sides of a product in attention do.

    Args:
        config: sizes.
        frames: valid latent frames.
        context: different tokens of the context.
        rank: of the LoRA.
        recompute: blocks run again on the way back.
    """
    depth, ends = config.depth, _ends(config, frames, context)
    wide, narrow = _of_tokens(config, frames), _of_conditioning(config, frames, context)
    layers, beside = depth * _dense(wide), depth * _dense(narrow)
    attention = depth * _attended(config, frames, context)
    branches = depth * _branches([*wide, *narrow], rank)
    # Nobody asks for gradients of what goes in: noised latents, what is given.
    unasked = frames * (config.channels**2 + depth * config.local_channels * config.width)
    forward = beside + attention + branches
    back = beside + 2 * attention + 2 * branches - unasked
    outside = 2 * _dense(ends) + 3 * _branches(ends, rank)
    ways = 3 if recompute else 2
    return TrainingFlops(2 * ways * layers, 2 * ((ways - 1) * forward + back + outside))


Layers = Sequence[tuple[int, int, int]]  # rows, inner, outer


def _of_tokens(config: DiTConfig, frames: int) -> Layers:
    """Layers of a block that all tokens go through."""
    width, pairs = config.width, 2 if config.differential else 1
    tokens, inner = config.memory_tokens + frames, config.ff_mult * width
    return (
        (tokens, width, (2 * pairs + 1) * width),
        (tokens, width, width),
        (tokens, width, pairs * width),
        (tokens, width, width),
        (tokens, width, 2 * inner),
        (tokens, inner, width),
    )


def _of_conditioning(config: DiTConfig, frames: int, context: int) -> Layers:
    """A block's layers for the context and for what is given of each frame."""
    width, pairs = config.width, 2 if config.differential else 1
    return (
        (context, width, (pairs + 1) * width),
        (frames, config.local_channels, width),
        (frames, width, width),
    )


def _ends(config: DiTConfig, frames: int, context: int) -> Layers:
    width, cond, channels = config.width, config.cond_width, config.channels
    return (
        *((frames, channels, channels), (frames, channels, width)),
        *((frames, width, channels), (frames, channels, channels)),
        *((context, cond, width), (context, width, width)),
        *((1, config.time_features, cond), (1, cond, width), (1, width, width)),
        *((1, config.time_features, width), (1, width, width)),
        *((1, width, width), (1, width, 6 * width)),
    )


def _dense(layers: Layers) -> float:
    return sum(rows * inner * outer for rows, inner, outer in layers)


def _branches(layers: Layers, rank: int) -> float:
    return sum(rows * rank * (inner + outer) for rows, inner, outer in layers)


def _attended(config: DiTConfig, frames: int, context: int) -> float:
    tokens, pairs = config.memory_tokens + frames, 2 if config.differential else 1
    return 2 * pairs * tokens * (tokens + context) * config.width


def _layers(side: ResamplerConfig, latents: int, stride: int) -> float:
    """SAME's transformer layers on `latents` latents, stride + 1 tokens each."""
    group = stride + 1
    tokens, width = latents * group, side.width
    if side.chunk is not None:
        pairs_seen = tokens * (side.chunk // stride) * group
    else:
        reach = (side.window or 0) * group
        pairs_seen = tokens * (2 * reach + 1) - reach * (reach + 1)  # less at both ends
    attention = 6 * tokens * width * width + 2 * 2 * pairs_seen * width
    return side.depth * (attention + 3 * side.ff_mult * width * width * tokens)


def same_decode(config: SAMEConfig, latents: int) -> float:
    """Decoding of one item."""
    side, frames = config.decoder, latents * config.stride
    mapping = frames * side.kernel * side.width * side.channels
    into = latents * config.latent_channels * side.width
    return 2.0 * (_layers(side, latents, config.stride) + mapping + into)


def same_encode(config: SAMEConfig, latents: int) -> float:
    """Encoding of one item."""
    side, frames = config.encoder, latents * config.stride
    mapping = frames * side.kernel * side.width * side.channels
    out = latents * config.latent_channels * side.width
    return 2.0 * (_layers(side, latents, config.stride) + mapping + out)


def text_encoder(config: EncoderConfig, tokens: int) -> float:
    """T5Gemma's encoder on `tokens` real tokens of one prompt."""
    heads, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    projections = TEXT_WIDTH * (2 * heads + 2 * keys)
    attention = 2 * tokens * heads
    return (
        2.0 * config.layers * tokens * (projections + attention + 3 * TEXT_WIDTH * config.mlp_width)
    )
