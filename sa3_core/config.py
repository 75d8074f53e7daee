"""What a net looks like: sizes from its tensors' shapes, the rest from model_config.json.

Source: arXiv 2605.17991 (DiT), arXiv 2605.18613 (SAME); the published model_config.json files.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config_keys import AUTOENCODER_KEYS, DIT_KEYS, check_keys, expect
from .errors import CheckpointError, ConfigError

log = logging.getLogger(__name__)

Shapes = Mapping[str, tuple[int, ...]]

HEAD_DIM = 64
OBJECTIVES = ("rf_denoiser", "rectified_flow")


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of a diffusion transformer.

    Attributes:
        width: D, channels of a token.
        depth: number of blocks.
        heads: attention heads of 64 channels.
        differential: every attention is a difference of two.
        memory_tokens: learned tokens in front of the latent frames.
        ff_mult: inner width of the feed-forward in units of D.
    """

    width: int
    depth: int
    heads: int
    differential: bool
    memory_tokens: int = 64
    ff_mult: int = 4
    channels: int = 256
    cond_width: int = 768
    local_channels: int = 257
    time_features: int = 256


@dataclass(frozen=True)
class ResamplerConfig:
    """One SAME resampling block (encoder or decoder).

    Attributes:
        channels: patched audio channels on the outside (512).
        width: D inside the block.
        kernel: taps of the mapping convolution (1 or 3).
        chunk: latents*stride frames per attention chunk (SAME-S: 32), or None with `window`.
        window: latents seen on each side (SAME-L: 1), or None with `chunk`.
        sinusoidal: the last `sinusoidal - 1` layers gate with sin(pi x).
        mask_noise: scale of the optional noise on the decoder's new tokens.
    """

    channels: int
    width: int
    depth: int
    kernel: int
    chunk: int | None
    window: int | None
    sinusoidal: int = 0
    ff_mult: int = 3
    mask_noise: float = 0.0


@dataclass(frozen=True)
class SAMEConfig:
    """Sizes of a SAME autoencoder: 2-channel audio to 256 latent channels, 4096 to 1."""

    encoder: ResamplerConfig
    decoder: ResamplerConfig
    stride: int = 16
    latent_channels: int = 256
    patch: int = 256
    audio_channels: int = 2


@dataclass(frozen=True)
class ModelConfig:
    """A whole checkpoint: the nets it holds and what its config file says about using them.

    Attributes:
        objective: `rf_denoiser` (post-trained) or `rectified_flow` (base); None = not stated.
        sample_size: longest piece in samples, headroom included.
        max_prompt_tokens: tokens of a prompt that the model was trained with.
        min_seconds, max_seconds: range of the duration embedding.
        shift: the `sampling_distribution_shift_options` of the file, None = default LogSNR.
    """

    dit: DiTConfig | None
    same: SAMEConfig | None
    objective: str | None = None
    sample_size: int | None = None
    max_prompt_tokens: int = 256
    min_seconds: float = 0.0
    max_seconds: float = 384.0
    shift: Mapping[str, Any] | None = field(default=None, hash=False)


def read_config(path: Path) -> dict[str, Any]:
    """Parse a model_config.json.

    Raises:
        ConfigError: the file is not a JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: not a readable JSON file ({error}).") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold a JSON object, holds a {type(data).__name__}.")
    return data


def _depth(shapes: Shapes, prefix: str) -> int:
    at = len(prefix)
    numbers = {key[at:].split(".", 1)[0] for key in shapes if key.startswith(prefix)}
    found = [int(n) for n in numbers if n.isdigit()]
    return max(found) + 1 if found else 0


def _shape(shapes: Shapes, key: str, what: str) -> tuple[int, ...]:
    if key not in shapes:
        raise CheckpointError(
            f"{what} lacks the tensor {key!r}, without which its size cannot be told."
        )
    return shapes[key]


def infer_dit(shapes: Shapes) -> DiTConfig:
    """Read a DiT's sizes off its tensors (keys without the `model.model.` prefix)."""
    block = "transformer.layers.0."
    width, channels = _shape(shapes, "transformer.project_in.weight", "The diffusion transformer")
    qkv = _shape(shapes, block + "self_attn.to_qkv.weight", "The diffusion transformer")[0]
    head = _shape(shapes, block + "self_attn.q_norm.gamma", "The diffusion transformer")[0]
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
        memory_tokens=_shape(shapes, "transformer.memory_tokens", "The DiT")[0],
        ff_mult=_shape(shapes, block + "ff.ff.2.weight", "The DiT")[1] // width,
        channels=channels,
        cond_width=_shape(shapes, "to_cond_embed.0.weight", "The DiT")[1],
        local_channels=_shape(shapes, block + "to_local_embed.0.weight", "The DiT")[1],
        time_features=_shape(shapes, "to_timestep_embed.0.weight", "The DiT")[1],
    )


def _mapping_shape(shapes: Shapes, block: str) -> tuple[int, ...]:
    for name in ("weight_v", "parametrizations.weight.original1", "weight"):
        if f"{block}mapping.{name}" in shapes:
            return shapes[f"{block}mapping.{name}"]
    raise CheckpointError(f"The autoencoder lacks the tensor '{block}mapping.weight_v'.")


def infer_same(shapes: Shapes, config: Mapping[str, Any] | None = None) -> SAMEConfig:
    """Read SAME's sizes off its tensors (keys without the `pretransform.model.` prefix).

    Args:
        shapes: tensor shapes by key.
        config: the autoencoder object of model_config.json, or None: then a 3-tap decoder mapping
            means SAME-S (chunks of 32, midpoint shift) and 1 tap SAME-L (window 1, 8 sinusoidal).
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
    inner = _shape(shapes, block + "transformers.0.ff.ff.2.weight", f"The {side}")[1]
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
    part = _mapping(_mapping(config, side, "autoencoder"), "config", side)
    return ResamplerConfig(**sizes, **_block_style(part, side, sizes))


def _block_style(part: Mapping[str, Any], side: str, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes cannot tell about a resampling block, checked against what they can."""
    check_keys(part, AUTOENCODER_KEYS, f"{side}.config")
    c_mults = part.get("c_mults", [6])
    if "channels" in part:
        expect(part["channels"] * c_mults[-1], sizes["width"], f"{side}.config channels * c_mults")
    if "transformer_depths" in part:
        expect(part["transformer_depths"], [sizes["depth"]], f"{side}.config transformer_depths")
    if "conv_mapping" in part:
        expect(part["conv_mapping"], sizes["kernel"] == 3, f"{side}.config conv_mapping")
    outside = "in_channels" if side == "encoder" else "out_channels"
    if outside in part:
        expect(part[outside], sizes["channels"], f"{side}.config {outside}")
    window = part.get("sliding_window")
    if window is not None:
        if window[0] != window[1]:
            raise ConfigError(f"{side}.config sliding_window {window}: only equal sides are known.")
        style: dict[str, Any] = {"chunk": None, "window": int(window[0])}
    else:
        style = {"chunk": int(part.get("chunk_size", 128)), "window": None}
        if not part.get("chunk_midpoint_shift", False):
            raise ConfigError(
                f"{side}.config chunk_midpoint_shift false without sliding_window is not known "
                "from any published model and not implemented."
            )
    sinusoidal = part.get("sinusoidal_blocks") or [0]
    sinusoidal = sinusoidal[-1] if isinstance(sinusoidal, list) else sinusoidal
    noise = float(part.get("mask_noise", 0.0)) if side == "decoder" else 0.0
    return {**style, "sinusoidal": int(sinusoidal), "mask_noise": noise}


def _mapping(parent: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = parent.get(key)
    if not isinstance(value, Mapping):
        raise ConfigError(f"model_config.json: {where} lacks the object {key!r}.")
    return value


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
    model = _mapping(raw, "model", "the file") if raw is not None else None
    same_raw = None
    if model is not None and same is not None:
        same_raw = model
        if "pretransform" in model and "encoder" not in model:
            same_raw = _mapping(_mapping(model, "pretransform", "model"), "config", "pretransform")
    same_config = infer_same(same, same_raw) if same is not None else None
    if dit is None:
        size = _sample_size(raw)
        return ModelConfig(dit=None, same=same_config, sample_size=size)
    dit_config = infer_dit(dit)
    if raw is None or model is None:
        return ModelConfig(dit=dit_config, same=same_config)
    expect(raw.get("sample_rate", 44100), 44100, "sample_rate")
    expect(raw.get("audio_channels", 2), 2, "audio_channels")
    diffusion = _mapping(model, "diffusion", "model")
    _check_dit(dit_config, diffusion)
    prompt, seconds = _conditioners(model)
    objective = diffusion.get("diffusion_objective")
    if objective is not None and objective not in OBJECTIVES:
        raise ConfigError(
            f"diffusion_objective is {objective!r}; implemented are {', '.join(OBJECTIVES)}."
        )
    return ModelConfig(
        dit=dit_config,
        same=same_config,
        objective=objective,
        sample_size=_sample_size(raw),
        max_prompt_tokens=int(prompt.get("max_length", 256)),
        min_seconds=float(seconds.get("min_val", 0.0)),
        max_seconds=float(seconds.get("max_val", 384.0)),
        shift=diffusion.get("sampling_distribution_shift_options"),
    )


def _sample_size(raw: Mapping[str, Any] | None) -> int | None:
    size = raw.get("sample_size") if raw is not None else None
    return int(size) if size is not None else None


def _check_dit(config: DiTConfig, diffusion: Mapping[str, Any]) -> None:
    expect(
        diffusion.get("cross_attention_cond_ids", ["prompt", "seconds_total"]),
        ["prompt", "seconds_total"],
        "cross_attention_cond_ids",
    )
    expect(
        diffusion.get("global_cond_ids", ["seconds_total"]), ["seconds_total"], "global_cond_ids"
    )
    local = ["inpaint_mask", "inpaint_masked_input"]
    expect(diffusion.get("local_add_cond_ids", local), local, "local_add_cond_ids")
    part = _mapping(diffusion, "config", "model.diffusion")
    check_keys(part, DIT_KEYS, "model.diffusion.config")
    sizes = {
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
    for key, size in sizes.items():
        if key in part:
            expect(part[key], size, f"model.diffusion.config.{key}")
    attention = part.get("attn_kwargs") or {}
    expect(attention.get("qk_norm", "rms"), "rms", "model.diffusion.config.attn_kwargs.qk_norm")
    if "differential" in attention:
        expect(attention["differential"], config.differential, "attn_kwargs.differential")
    norm = part.get("norm_kwargs") or {}
    expect(norm.get("force_fp32", True), True, "model.diffusion.config.norm_kwargs.force_fp32")


def _conditioners(model: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The prompt's and the duration's config objects, checked."""
    conditioning = model.get("conditioning") or {}
    expect(conditioning.get("cond_dim", 768), 768, "model.conditioning.cond_dim")
    by_id = {c.get("id"): c for c in conditioning.get("configs", [])}
    parts = []
    for name, kind in (("prompt", "t5gemma"), ("seconds_total", "number")):
        entry = by_id.get(name, {"type": kind, "config": {}})
        expect(entry.get("type", kind), kind, f"conditioner {name!r} type")
        parts.append(entry.get("config") or {})
    expect(parts[0].get("padding_mode", "learned"), "learned", "prompt padding_mode")
    kind = parts[1].get("fourier_features_type", "expo")
    expect(kind, "expo", "seconds_total fourier_features_type")
    return parts[0], parts[1]
