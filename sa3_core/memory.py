"""How much memory a forward pass needs beside the weights, in bytes.

Counted from the tensors that are alive at the widest point of a block.
"""

import torch

from .config import DiTConfig


def dit_memory(config: DiTConfig, batch: int, frames: int, dtype: torch.dtype) -> float:
    """Peak activations of one DiT call and the constants it keeps.

    Args:
        config: sizes.
        batch: B, doubled under guidance.
        frames: T.
        dtype: of the computation.
    """
    size = torch.empty((), dtype=dtype).element_size()
    tokens = batch * (config.memory_tokens + frames)
    # Residual and normed input; then feed-forward (2 x inner, gate, product) is the widest point.
    feed_forward = 2 + 4 * config.ff_mult
    attention = 2 + (15 if config.differential else 9)
    local = config.depth * frames  # to_local_embed of every block, kept for the generation
    return size * config.width * (tokens * max(feed_forward, attention) + local)
