"""Keys of model_config.json that we know, and the values of them that are implemented."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError

log = logging.getLogger(__name__)

ANY = object()  # checked elsewhere, or not relevant to inference

# Values that shapes decide are ANY here: config.py compares them with the tensors.
DIT_KEYS: Mapping[str, Any] = {
    **dict.fromkeys(
        (
            "io_channels",
            "embed_dim",
            "depth",
            "num_heads",
            "cond_token_dim",
            "global_cond_dim",
            "local_add_cond_dim",
            "timestep_features_dim",
            "num_memory_tokens",
            "norm_kwargs",
            "attn_kwargs",
        ),
        ANY,
    ),
    "transformer_type": "continuous_transformer",
    "global_cond_type": "adaLN",
    "timestep_features_type": "expo",
    "timestep_features_logsnr": False,
    "norm_type": "rms_norm",
    "patch_size": 1,
    "project_cond_tokens": True,
    "project_global_cond": True,
}

AUTOENCODER_KEYS: Mapping[str, Any] = {
    **dict.fromkeys(
        (
            "channels",
            "c_mults",
            "transformer_depths",
            "conv_mapping",
            "in_channels",
            "out_channels",
            "sliding_window",
            "chunk_size",
            "chunk_midpoint_shift",
            "sinusoidal_blocks",
            "mask_noise",
        ),
        ANY,
    ),
    "strides": [16],
    "latent_dim": 256,
    "dim_heads": 64,
    "differential": True,
    "dyt": True,
    "variable_stride": True,
}

_warned: set[str] = set()


def expect(given: Any, wanted: Any, name: str) -> None:
    """Raise ConfigError unless a config value equals what the tensors or this code allow."""
    if given != wanted:
        raise ConfigError(
            f"model_config.json: {name} is {given!r}, but the tensors and this implementation "
            f"need {wanted!r}. Is the config from another model?"
        )


def expect_all(part: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    """As `expect` for every wanted key that is there; null counts as absent."""
    for key, value in wanted.items():
        if value is not ANY and part.get(key) is not None:
            expect(part[key], value, f"{where}.{key}")


def read_number(value: Any, name: str) -> float:
    """Return a config value as a number or raise ConfigError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"model_config.json: {name} is {value!r}; it must be a number.")
    return value


def read_mapping(parent: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """Return an object inside the config or raise ConfigError."""
    value = parent.get(key)
    if not isinstance(value, Mapping):
        raise ConfigError(f"model_config.json: {where} lacks the object {key!r}.")
    return value


def check_keys(part: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Refuse known keys with unimplemented values; warn once about unknown keys."""
    expect_all(part, known, where)
    unknown = sorted(set(part) - set(known))
    text = f"{where}: {', '.join(unknown)}"
    if unknown and text not in _warned:
        _warned.add(text)
        log.warning("model_config.json has keys that are not known here and are ignored: %s", text)
