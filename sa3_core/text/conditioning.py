"""Encoded prompts as they travel between the text encoder and the model.

B batch, n text tokens (the longest prompt of the batch), 768 channels. Duration and the learned
padding embedding are the model's business and are not in here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

TEXT_WIDTH = 768  # channels of a T5Gemma b-b token; the DiT's cond_token_dim
TEXT_TOKENS = 256  # prompts are cut to this many tokens (`max_length` of the published configs)


@dataclass(frozen=True, eq=False)
class TextConditioning:
    """Encoded prompts, one row per batch item.

    Attributes:
        tokens: [B, n, 768] float32, zero where `mask` is False.
        mask: [B, n] bool, True for real tokens. An item without any is an empty prompt.

    Raises:
        InputError: the shapes or dtypes are not these.
    """

    tokens: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        if self.tokens.dim() != 3 or self.tokens.shape[-1] != TEXT_WIDTH:
            raise InputError(
                f"Text conditioning has shape {tuple(self.tokens.shape)}; Stable Audio 3 takes "
                f"[batch, tokens, {TEXT_WIDTH}], made by T5Gemma b-b. Encode the prompt with it."
            )
        if self.mask.shape != self.tokens.shape[:2]:
            raise InputError(
                f"The token mask has shape {tuple(self.mask.shape)}; it must be "
                f"{tuple(self.tokens.shape[:2])}, one value per text token."
            )
        if self.tokens.dtype != torch.float32 or self.mask.dtype != torch.bool:
            raise InputError(
                f"Text tokens are {self.tokens.dtype} with a {self.mask.dtype} mask; they must be "
                "torch.float32 with a torch.bool mask."
            )

    @property
    def batch(self) -> int:
        """B, the number of prompts."""
        return self.tokens.shape[0]

    @property
    def length(self) -> int:
        """n, the number of token positions, padding included."""
        return self.tokens.shape[1]

    def to(self, device: torch.device | str) -> TextConditioning:
        """The same on `device`."""
        return TextConditioning(self.tokens.to(device), self.mask.to(device))

    def select(self, indices: Sequence[int]) -> TextConditioning:
        """The items at `indices`, in that order; an index may repeat. n stays.

        Raises:
            InputError: an index is outside the batch.
        """
        wrong = [i for i in indices if not -self.batch <= i < self.batch]
        if wrong:
            raise InputError(f"There is no prompt {wrong[0]}; there are {self.batch} (from 0).")
        rows = torch.tensor([i % self.batch for i in indices], device=self.tokens.device)
        return TextConditioning(
            self.tokens.index_select(0, rows.long()), self.mask.index_select(0, rows.long())
        )

    def pad(self, length: int) -> TextConditioning:
        """Zero tokens appended up to `length` positions, masked out.

        Raises:
            InputError: there are already more than `length` positions.
        """
        if length < self.length:
            raise InputError(
                f"The prompt has {self.length} tokens; at most {length} fit. Shorten it."
            )
        extra = length - self.length
        return TextConditioning(
            F.pad(self.tokens, (0, 0, 0, extra)), F.pad(self.mask, (0, extra), value=False)
        )

    @classmethod
    def stack(cls, parts: Sequence[TextConditioning]) -> TextConditioning:
        """All items of `parts` in one batch, padded to the longest n.

        Raises:
            InputError: `parts` is empty.
        """
        if not parts:
            raise InputError("There is no text conditioning to join; give at least one prompt.")
        length = max(part.length for part in parts)
        padded = [part.pad(length) for part in parts]
        return cls(torch.cat([p.tokens for p in padded]), torch.cat([p.mask for p in padded]))
