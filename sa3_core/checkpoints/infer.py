"""Sizes of the nets, read off their tensors' shapes; of SAME also what only a config tells.

Source: arXiv 2605.17991 (DiT), arXiv 2605.18613 (SAME); the published model_config.json files.
"""

import logging
from collections.abc import Mapping
from typing import Any

from ..checks import shown
from ..errors import CheckpointError, ConfigError
from ..networks.config import HEAD_DIM, DiTConfig, ResamplerConfig, SAMEConfig

log = logging.getLogger(__name__)

Shapes = Mapping[str, tuple[int, ...]]

ANY = object()  # checked elsewhere, or not relevant to inference

# Values that shapes decide are ANY here: config_json.py compares them with the tensors.
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

_MOST_CHANNELS, _MOST_CHUNK = 65_536, 4096
_warned: set[str] = set()


def _depth(shapes: Shapes, prefix: str) -> int:
    at = len(prefix)
    numbers = {key[at:].split(".", 1)[0] for key in shapes if key.startswith(prefix)}
    found = [int(n) for n in numbers if n.isdigit()]
    return max(found) + 1 if found else 0


def _shape(shapes: Shapes, key: str, what: str, dims: int = 2) -> tuple[int, ...]:
    if key not in shapes:
        raise CheckpointError(
            f"The {what} lacks the tensor {key!r}, without which its size cannot be told. Is the "
            "file complete? Download it again."
        )
    if len(shapes[key]) != dims or 0 in shapes[key]:
        raise CheckpointError(
            f"The {what}'s tensor {key!r} has shape {shapes[key]}; {dims} dimensions are needed. "
            "Is the file from another model?"
        )
    return shapes[key]


def infer_dit(shapes: Shapes) -> DiTConfig:
    """Read a DiT's sizes off its tensors (keys without the `model.model.` prefix).

    Raises:
        CheckpointError: tensors that sizes are read from are missing or of unknown proportions.
    """
    what, block = "diffusion transformer", "transformer.layers.0."
    width, channels = _shape(shapes, "transformer.project_in.weight", what)
    qkv = _shape(shapes, block + "self_attn.to_qkv.weight", what)[0]
    head = _shape(shapes, block + "self_attn.q_norm.gamma", what, 1)[0]
    if head != HEAD_DIM or width % head or qkv not in (3 * width, 5 * width):
        raise CheckpointError(
            f"The diffusion transformer has attention rows {qkv} for width {width} and heads of "
            f"{head}; known are 3 or 5 times the width and heads of {HEAD_DIM}."
        )
    return DiTConfig(
        width=width,
        depth=_depth(shapes, "transformer.layers."),
        heads=width // head,
        differential=qkv == 5 * width,
        memory_tokens=_shape(shapes, "transformer.memory_tokens", what)[0],
        ff_mult=_shape(shapes, block + "ff.ff.2.weight", what)[1] // width,
        channels=channels,
        cond_width=_shape(shapes, "to_cond_embed.0.weight", what)[1],
        local_channels=_shape(shapes, block + "to_local_embed.0.weight", what)[1],
        time_features=_shape(shapes, "to_timestep_embed.0.weight", what)[1],
    )


def _mapping_shape(shapes: Shapes, block: str) -> tuple[int, ...]:
    names = ("weight_v", "parametrizations.weight.original1", "weight")
    keys = [f"{block}mapping.{name}" for name in names]
    found = next((key for key in keys if key in shapes), keys[0])
    return _shape(shapes, found, "autoencoder", 3)


def infer_same(shapes: Shapes, config: Mapping[str, Any] | None = None) -> SAMEConfig:
    """Read SAME's sizes off its tensors (keys without the `pretransform.model.` prefix).

    Args:
        shapes: tensor shapes by key.
        config: the autoencoder object of model_config.json, or None: then a 3-tap decoder mapping
            means SAME-S (chunks of 32, midpoint shift) and 1 tap SAME-L (window 1, 8 sinusoidal).

    Raises:
        CheckpointError: tensors that sizes are read from are missing or of unknown proportions.
        ConfigError: the config contradicts the tensors or asks for something unknown here.
    """
    small = _mapping_shape(shapes, "decoder.layers.3.")[2] == 3
    return SAMEConfig(
        encoder=_infer_block(shapes, "encoder.layers.0.", "encoder", config, small),
        decoder=_infer_block(shapes, "decoder.layers.3.", "decoder", config, small),
    )


def _infer_block(
    shapes: Shapes, block: str, side: str, config: Mapping[str, Any] | None, small: bool
) -> ResamplerConfig:
    first, second, kernel = _mapping_shape(shapes, block)
    width, channels = (first, second) if side == "encoder" else (second, first)
    inner = _shape(shapes, block + "transformers.0.ff.ff.2.weight", side)[1]
    sizes: dict[str, Any] = {
        "channels": channels,
        "width": width,
        "depth": _depth(shapes, block + "transformers."),
        "kernel": kernel,
        "ff_mult": inner // width,
    }
    if config is None:
        style = {"chunk": 32, "window": None} if small else {"chunk": None, "window": 1}
        sinusoidal = 8 if side == "decoder" and not small else 0
        noise = 0.01 if side == "decoder" and small else 0.0
        return ResamplerConfig(**sizes, **style, sinusoidal=sinusoidal, mask_noise=noise)
    part = read_mapping(read_mapping(config, side, "the autoencoder"), "config", side)
    return ResamplerConfig(**sizes, **_block_style(part, side, sizes))


def _block_style(part: Mapping[str, Any], side: str, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes cannot tell about a resampling block, checked against what they can."""
    where = f"{side}.config"
    check_keys(part, AUTOENCODER_KEYS, where)
    if part.get("channels") is not None:
        channels = read_whole(part["channels"], f"{where}.channels", 1, _MOST_CHANNELS)
        factor = read_whole(_last(part.get("c_mults"), 6), f"{where}.c_mults", 1, 1024)
        expect(channels * factor, sizes["width"], f"{where}.channels * c_mults")
    shaped = {
        "transformer_depths": [sizes["depth"]],
        "conv_mapping": sizes["kernel"] == 3,
        "in_channels" if side == "encoder" else "out_channels": sizes["channels"],
    }
    expect_all(part, shaped, where)
    sinusoidal = _last(part.get("sinusoidal_blocks"), 0)
    noise = part.get("mask_noise")
    noise = read_number(0.0 if noise is None else noise, f"{where}.mask_noise", 0, 1)
    return {
        **_attention_style(part, where),
        "sinusoidal": read_whole(sinusoidal, f"{where}.sinusoidal_blocks", 0, sizes["depth"] + 1),
        "mask_noise": noise if side == "decoder" else 0.0,
    }


def _attention_style(part: Mapping[str, Any], where: str) -> dict[str, int | None]:
    """Chunks (SAME-S) or a sliding window (SAME-L)."""
    window = part.get("sliding_window")
    if window is not None:
        if not isinstance(window, list) or len(window) != 2 or window[0] != window[1]:
            raise ConfigError(
                f"model_config.json: {where}.sliding_window is {shown(window)}; only windows of as "
                "many latents to both sides ([1, 1]) are implemented."
            )
        return {"chunk": None, "window": read_whole(window[0], f"{where}.sliding_window", 1, 64)}
    chunk = part.get("chunk_size")
    chunk = read_whole(128 if chunk is None else chunk, f"{where}.chunk_size", 1, _MOST_CHUNK)
    if chunk % 32:
        raise ConfigError(
            f"model_config.json: {where}.chunk_size is {chunk:g}; only multiples of 32 are "
            "implemented."
        )
    shifted = part.get("chunk_midpoint_shift")
    expect(False if shifted is None else shifted, bool(shifted), f"{where}.chunk_midpoint_shift")
    if not shifted:
        raise ConfigError(
            f"model_config.json: {where} has neither sliding_window nor chunk_midpoint_shift; no "
            "published model is like that, and it is not implemented."
        )
    return {"chunk": chunk, "window": None}


def _last(value: Any, default: int) -> Any:
    """Configs give one entry per stage, and there is one stage; null means the default."""
    if isinstance(value, list) and value:
        value = value[-1]
    elif value == []:
        value = None
    return default if value is None else value


def expect(given: Any, wanted: Any, name: str) -> None:
    """Raise ConfigError unless a config value equals what the tensors or this code allow."""
    if given != wanted or isinstance(given, bool) != isinstance(wanted, bool):
        raise ConfigError(
            f"model_config.json: {name} is {shown(given)}, but the tensors and this "
            f"implementation need {wanted!r}. Is the config from another model?"
        )


def expect_all(part: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    """As `expect` for every wanted key that is there; null counts as absent."""
    for key, value in wanted.items():
        if value is not ANY and part.get(key) is not None:
            expect(part[key], value, f"{where}.{key}")


def read_number(value: Any, name: str, low: float, high: float) -> float:
    """Return a config value as a number in [low, high] or raise ConfigError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise ConfigError(
            f"model_config.json: {name} is {shown(value)}; it must be a number from {low:g} to "
            f"{high:g}."
        )
    return value


def read_whole(value: Any, name: str, low: int, high: int) -> int:
    """Return a config value as a whole number in [low, high] or raise ConfigError."""
    number = read_number(value, name, low, high)
    if number != int(number):
        raise ConfigError(f"model_config.json: {name} is {shown(value)}; it must be whole.")
    return int(number)


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
    text = f"{where}: {shown(', '.join(unknown))}"
    if unknown and text not in _warned:
        _warned.add(text)
        log.warning("model_config.json has keys that are not known here and are ignored: %s", text)
