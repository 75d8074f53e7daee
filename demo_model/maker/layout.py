"""`model_config.json` of the demo model, in the published form."""

from __future__ import annotations

import copy
from typing import Any

from tests.helpers import make_checkpoint

from .autoencoder import DEPTH, WIDTH
from .sounds import FRAME

MAX_FRAMES = 138
"""Latent frames that the model is trained on: 12 s and six frames of silence behind them."""
POST_TRAINED, BASE = "rf_denoiser", "rectified_flow"


def model_config(width: int, depth: int, memory_tokens: int, objective: str) -> dict[str, Any]:
    """The config of the whole model.

    Args:
        width: of the transformer, a multiple of 64.
        depth: its blocks.
        memory_tokens: its memory tokens.
        objective: POST_TRAINED or BASE.
    """
    config = copy.deepcopy(make_checkpoint.model_config("small-music"))
    config["sample_size"] = MAX_FRAMES * FRAME
    autoencoder = config["model"]["pretransform"]["config"]
    sizes = {"channels": WIDTH, "c_mults": [1], "transformer_depths": [DEPTH]}
    for half in ("encoder", "decoder"):
        autoencoder[half]["config"] |= sizes
    diffusion = config["model"]["diffusion"]
    diffusion["diffusion_objective"] = objective
    diffusion["config"] |= {"embed_dim": width, "depth": depth, "num_heads": width // 64}
    diffusion["config"]["num_memory_tokens"] = memory_tokens
    return config


def autoencoder_config() -> dict[str, Any]:
    """The config of the autoencoder as a model of its own."""
    config = copy.deepcopy(make_checkpoint.model_config("same-s"))
    whole = model_config(WIDTH, 1, 1, POST_TRAINED)
    config["model"] = whole["model"]["pretransform"]["config"]
    return config
