"""Encoded prompts for tests of training."""

from __future__ import annotations

import torch

from sa3_core.text.conditioning import TextConditioning
from tests.helpers.support import load_golden


def spoken() -> dict[str, TextConditioning]:
    """Two prompts by their text."""
    tokens = load_golden("t5gemma")["tokens.0"][None]
    return {
        "warm pad": TextConditioning(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool)),
        "drum loop": TextConditioning(tokens[:, :1], torch.ones(1, 1, dtype=torch.bool)),
    }
