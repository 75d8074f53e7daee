"""Reading model_config.json and joining it with what the tensors' shapes say.

Sizes come from the shapes; the file adds what they cannot tell (objective, limits, shifts). What it
says beyond that must agree with the tensors and with what is implemented.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..networks.config import OBJECTIVES, DiTConfig, ModelConfig
from .infer import (
    DIT_KEYS,
    Shapes,
    check_keys,
    expect_all,
    infer_dit,
    infer_same,
    read_mapping,
    read_number,
)


def read_config(path: Path) -> dict[str, Any]:
    """Parse a model_config.json.

    Raises:
        ConfigError: the file is not a JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a readable JSON file ({error}).") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold a JSON object, holds a {type(data).__name__}.")
    return data


def build_config(
    dit: Shapes | None, same: Shapes | None, raw: Mapping[str, Any] | None
) -> ModelConfig:
    """Join what tensors and model_config.json say.

    Args:
        dit: shapes of the DiT's tensors without prefix, or None when the file has no DiT.
        same: shapes of the autoencoder's tensors without prefix, or None.
        raw: parsed model_config.json, or None (single files).

    Raises:
        ConfigError: the file asks for something unknown here or contradicts the tensors.
        CheckpointError: tensors that sizes are read from are missing.
    """
    if raw is None:
        return ModelConfig(
            dit=infer_dit(dit) if dit is not None else None,
            same=infer_same(same) if same is not None else None,
        )
    expect_all(raw, {"sample_rate": 44100, "audio_channels": 2}, "the file")
    model = read_mapping(raw, "model", "the file")
    size = raw.get("sample_size")
    config = ModelConfig(
        dit=infer_dit(dit) if dit is not None else None,
        same=infer_same(same, _autoencoder(model)) if same is not None else None,
        sample_size=int(read_number(size, "sample_size")) if size is not None else None,
    )
    return config if config.dit is None else _generator_settings(config, config.dit, model)


def _autoencoder(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The autoencoder's object: nested in full models, `model` itself in standalone ones."""
    if "pretransform" in model and "encoder" not in model:
        model = read_mapping(read_mapping(model, "pretransform", "model"), "config", "pretransform")
    expect_all(model, {"latent_dim": 256, "downsampling_ratio": 4096}, "the autoencoder")
    return model


def _generator_settings(
    config: ModelConfig, dit: DiTConfig, model: Mapping[str, Any]
) -> ModelConfig:
    """Add what only model_config.json tells about a generator."""
    diffusion = read_mapping(model, "diffusion", "model")
    _check_dit(dit, diffusion)
    prompt, seconds = _conditioners(model)
    objective = diffusion.get("diffusion_objective")
    if objective is not None and objective not in OBJECTIVES:
        raise ConfigError(
            f"model_config.json: diffusion_objective is {objective!r}; implemented are "
            f"{', '.join(OBJECTIVES)}."
        )
    shift = diffusion.get("sampling_distribution_shift_options")
    return replace(
        config,
        objective=objective,
        max_prompt_tokens=int(read_number(prompt.get("max_length", 256), "prompt max_length")),
        min_seconds=read_number(seconds.get("min_val", 0), "seconds_total min_val"),
        max_seconds=read_number(seconds.get("max_val", 384), "seconds_total max_val"),
        shift=shift,
        train_shift=diffusion.get("distribution_shift_options"),
    )


def _check_dit(config: DiTConfig, diffusion: Mapping[str, Any]) -> None:
    """Refuse what the DiT code does not implement or the tensors contradict."""
    ids = {
        "cross_attention_cond_ids": ["prompt", "seconds_total"],
        "global_cond_ids": ["seconds_total"],
        "local_add_cond_ids": ["inpaint_mask", "inpaint_masked_input"],
    }
    where = "model.diffusion"
    expect_all(diffusion, ids, where)
    part, where = read_mapping(diffusion, "config", where), f"{where}.config"
    check_keys(part, DIT_KEYS, where)
    shaped = {
        "io_channels": config.channels,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "cond_token_dim": config.cond_width,
        "global_cond_dim": config.cond_width,
        "local_add_cond_dim": config.local_channels,
        "timestep_features_dim": config.time_features,
        "num_memory_tokens": config.memory_tokens,
    }
    expect_all(part, shaped, where)
    nested = {
        "attn_kwargs": {"qk_norm": "rms", "differential": config.differential},
        "norm_kwargs": {"force_fp32": True},
    }
    for key, known in nested.items():
        if part.get(key) is not None:
            check_keys(read_mapping(part, key, where), known, f"{where}.{key}")


def _conditioners(model: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The prompt's and the duration's settings, checked, without null values."""
    conditioning = model.get("conditioning")
    if conditioning is None:
        return {}, {}
    conditioning = read_mapping(model, "conditioning", "model")
    expect_all(conditioning, {"cond_dim": 768}, "model.conditioning")
    parts = []
    for name, kind in (("prompt", "t5gemma"), ("seconds_total", "number")):
        entries = conditioning.get("configs") or []
        entry = next((e for e in entries if isinstance(e, Mapping) and e.get("id") == name), {})
        expect_all(entry, {"type": kind}, f"conditioner {name!r}")
        entry = entry if entry.get("config") is not None else {"config": {}}
        settings = read_mapping(entry, "config", f"conditioner {name!r}")
        parts.append({key: value for key, value in settings.items() if value is not None})
    expect_all(parts[0], {"padding_mode": "learned"}, "conditioner 'prompt'")
    expect_all(parts[1], {"fourier_features_type": "expo"}, "conditioner 'seconds_total'")
    return parts[0], parts[1]
