"""From text tokens, seconds and a source to what the DiT is told.

Source: arXiv 2605.17991, conditioning; spec of the published checkpoints (padding_mode learned).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..text.conditioning import TEXT_WIDTH, TextConditioning
from .config import ModelConfig
from .layers import cast_to, expo_fourier
from .ops import Ops, TorchOps

COND_WIDTH = TEXT_WIDTH  # no projection: the model takes the encoder's width
DURATION_FEATURES = 256


@dataclass(frozen=True)
class Context:
    """What cross-attention sees, with equal tokens collapsed into one.

    Attributes:
        tokens: [B, S, 768] float32.
        bias: [B, S] float32: log of how many equal tokens each stands for, -inf = absent.
    """

    tokens: Tensor
    bias: Tensor

    def padded(self, length: int) -> "Context":
        """The same context with absent tokens appended up to `length`."""
        extra = length - self.tokens.shape[1]
        return Context(
            F.pad(self.tokens, (0, 0, 0, extra)), F.pad(self.bias, (0, extra), value=-torch.inf)
        )


def join_contexts(contexts: Sequence[Context]) -> Context:
    """Stack contexts along the batch, shorter ones padded with absent tokens."""
    length = max(c.tokens.shape[1] for c in contexts)
    padded = [c.padded(length) for c in contexts]
    return Context(torch.cat([c.tokens for c in padded]), torch.cat([c.bias for c in padded]))


class _DurationEmbedder(nn.Module):
    """Holds the published key path `embedder.embedding.1`."""

    def __init__(self, ops: Ops, device=None, dtype=None) -> None:
        super().__init__()
        linear = ops.Linear(DURATION_FEATURES, COND_WIDTH, device=device, dtype=dtype)
        self.embedder = nn.ModuleDict({"embedding": nn.Sequential(nn.Identity(), linear)})

    def forward(self, features: Tensor) -> Tensor:
        return self.embedder["embedding"](features)


class _PromptPadding(nn.Module):
    def __init__(self, device=None, dtype=None) -> None:
        super().__init__()
        self.padding_embedding = nn.Parameter(torch.empty(COND_WIDTH, device=device, dtype=dtype))


class Conditioner(nn.Module):
    """The learned padding token and the duration embedding (published prefix `conditioner.`)."""

    def __init__(self, config: ModelConfig, ops: Ops = TorchOps, device=None, dtype=None) -> None:
        super().__init__()
        self.config = config
        self.conditioners = nn.ModuleDict(
            {
                "prompt": _PromptPadding(device, dtype),
                "seconds_total": _DurationEmbedder(ops, device, dtype),
            }
        )

    def duration(self, seconds: Sequence[float], device: torch.device | str = "cpu") -> Tensor:
        """Embed durations; fractions of a second count.

        Args:
            seconds: B durations; clamped to the model's range (0-384 s).

        Returns:
            [B, 768] float32.
        """
        low, high = self.config.min_seconds, self.config.max_seconds
        value = torch.tensor(list(seconds), dtype=torch.float32, device=device).clamp(low, high)
        features = expo_fourier((value - low) / (high - low), DURATION_FEATURES)
        return self.conditioners["seconds_total"](features)

    def context(self, text: TextConditioning, duration: Tensor, negative: bool = False) -> Context:
        """Text, padding and duration as one context.

        Args:
            text: [B, n, 768] tokens with their mask.
            duration: [B, 768].
            negative: a negative prompt is padded with zero vectors instead of the learned
                padding embedding.

        Raises:
            InputError: more tokens than the model takes.
        """
        limit, tokens = self.config.max_prompt_tokens, text.tokens.to(duration)
        mask = text.mask.to(duration.device)
        if tokens.shape[1] > limit:
            raise InputError(
                f"The conditioning has {tokens.shape[1]} tokens, the model takes {limit}. Shorten "
                "the prompt; concatenated conditionings add up."
            )
        learned = cast(_PromptPadding, self.conditioners["prompt"]).padding_embedding
        filler = torch.zeros_like(tokens[0, :1]) if negative else cast_to(learned, tokens)[None]
        batch = tokens.shape[0]
        count = mask.sum(dim=1, keepdim=True)
        bias = torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -torch.inf)
        padding = torch.log((limit - count).float())  # log(0) = -inf: no padding left
        return Context(
            torch.cat(
                [tokens * mask[..., None], filler.expand(batch, 1, -1), duration[:, None]], dim=1
            ),
            torch.cat([bias, padding, torch.zeros_like(padding)], dim=1),
        )


def null_context(batch: int, device: torch.device | str = "cpu") -> Context:
    """The all-zero context of guidance without a negative prompt: 257 equal zero tokens."""
    return Context(
        torch.zeros(batch, 1, COND_WIDTH, device=device), torch.zeros(batch, 1, device=device)
    )


def local_condition(latent: Tensor, keep: Tensor) -> Tensor:
    """What the model is told about the given part: the mask, then the masked source.

    Args:
        latent: [B, C, T], the encoded source.
        keep: [B, 1, T] or [1, 1, T].

    Returns:
        [B, 1 + C, T] in the latent's dtype and on its device.

    Source: arXiv 2605.17991, inpainting; stable-audio-3:stable_audio_3/model.py.
    """
    mask = keep.to(latent).expand(latent.shape[0], -1, -1)
    return torch.cat([mask, latent * mask], dim=1)
