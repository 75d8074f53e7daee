"""Keys of model_config.json that we know, and the values of them that are implemented."""

import logging
from collections.abc import Mapping
from typing import Any

from .errors import ConfigError

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


def check_keys(part: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Refuse known keys with unimplemented values; warn once about unknown keys."""
    for key, value in part.items():
        if key in known and known[key] is not ANY:
            expect(value, known[key], f"{where}.{key}")
    unknown = sorted(set(part) - set(known))
    text = f"{where}: {', '.join(unknown)}"
    if unknown and text not in _warned:
        _warned.add(text)
        log.warning("model_config.json has keys that are not known here and are ignored: %s", text)
