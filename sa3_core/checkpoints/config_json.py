"""Reading model_config.json and joining it with what the tensors' shapes say.

Sizes come from the shapes; the file adds what they cannot tell (objective, limits, shifts). What it
says beyond that must agree with the tensors and with what is implemented.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checks import shown
from ..errors import ConfigError
from ..files.json_text import parse_json
from ..geometry import HOP
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
    read_whole,
)

_MOST_SAMPLES, _MOST_SECONDS = 2**31 - 1, 100_000
_CONDITIONERS = ("prompt", "seconds_total")


def read_config(path: Path) -> dict[str, Any]:
    """Parse a model_config.json.

    Raises:
        ConfigError: the file is not a JSON object.
    """
    try:
        data = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
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
    size = None if size is None else read_whole(size, "sample_size", HOP, _MOST_SAMPLES)
    config = ModelConfig(
        dit=infer_dit(dit) if dit is not None else None,
        same=infer_same(same, _autoencoder(model)) if same is not None else None,
        sample_size=size,
    )
    return config if config.dit is None else _generator_settings(config, config.dit, model)


# Parts of an autoencoder: their type, and the settings that are implemented. What the bottleneck
# did in training (noise_regularize, auto_scale, freeze) has no part in using it.
_PARTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "encoder": ("same", {}),
    "decoder": ("same", {}),
    "bottleneck": ("softnorm", {"dim": 256, "noise_augment_dim": 0}),
    "pretransform": ("patched", {"channels": 2, "patch_size": 256}),
}


def _autoencoder(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The autoencoder's object: nested in full models, `model` itself in standalone ones."""
    if "pretransform" in model and "encoder" not in model:
        outer = read_mapping(model, "pretransform", "model")
        expect_all(outer, {"type": "autoencoder"}, "model.pretransform")
        model = read_mapping(outer, "config", "pretransform")
    where = "the autoencoder"
    sizes = {"latent_dim": 256, "downsampling_ratio": 4096, "io_channels": 2}
    expect_all(model, sizes, where)
    for name, (kind, settings) in _PARTS.items():
        if model.get(name) is None:
            continue
        part = read_mapping(model, name, where)
        expect_all(part, {"type": kind}, name)
        if part.get("config") is not None:
            expect_all(read_mapping(part, "config", name), settings, f"{name}.config")
    return model


def _generator_settings(
    config: ModelConfig, dit: DiTConfig, model: Mapping[str, Any]
) -> ModelConfig:
    """Add what only model_config.json tells about a generator."""
    expect_all(model, {"io_channels": dit.channels}, "model")
    diffusion = read_mapping(model, "diffusion", "model")
    expect_all(diffusion, {"type": "dit"}, "model.diffusion")
    _check_dit(dit, diffusion)
    prompt, seconds = _conditioners(model)
    objective = diffusion.get("diffusion_objective")
    if objective is not None and objective not in OBJECTIVES:
        raise ConfigError(
            f"model_config.json: diffusion_objective is {shown(objective)}; implemented are "
            f"{', '.join(OBJECTIVES)}."
        )
    low = read_number(seconds.get("min_val", 0), "seconds_total min_val", 0, _MOST_SECONDS)
    high = read_number(seconds.get("max_val", 384), "seconds_total max_val", 0, _MOST_SECONDS)
    if low >= high:
        raise ConfigError(
            f"model_config.json: seconds_total min_val is {low:g}; it must be below max_val, "
            f"{high:g}."
        )
    shift = diffusion.get("sampling_distribution_shift_options")
    if shift is not None:
        shift = read_mapping(diffusion, "sampling_distribution_shift_options", "model.diffusion")
    length = prompt.get("max_length", 256)
    return replace(
        config,
        objective=objective,
        max_prompt_tokens=read_whole(length, "prompt max_length", 1, 8192),
        min_seconds=low,
        max_seconds=high,
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
    entries = _entries(conditioning)
    for name, kind in (("prompt", "t5gemma"), ("seconds_total", "number")):
        entry = entries.get(name, {})
        expect_all(entry, {"type": kind}, f"conditioner {name!r}")
        entry = entry if entry.get("config") is not None else {"config": {}}
        settings = read_mapping(entry, "config", f"conditioner {name!r}")
        parts.append({key: value for key, value in settings.items() if value is not None})
    expect_all(parts[0], {"padding_mode": "learned"}, "conditioner 'prompt'")
    expect_all(parts[1], {"fourier_features_type": "expo"}, "conditioner 'seconds_total'")
    return parts[0], parts[1]


def _entries(conditioning: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The conditioners by name: each of the two at most once, and no others."""
    listed = conditioning.get("configs")
    if listed is None:
        return {}
    entries: dict[str, Mapping[str, Any]] = {}
    for entry in listed if isinstance(listed, list) else [listed]:
        name = entry.get("id") if isinstance(entry, Mapping) else entry
        if not isinstance(name, str) or name not in _CONDITIONERS or name in entries:
            raise ConfigError(
                f"model_config.json: model.conditioning.configs has an entry {shown(name)}; there "
                f"must be one each of {' and '.join(_CONDITIONERS)}."
            )
        entries[name] = entry
    return entries
