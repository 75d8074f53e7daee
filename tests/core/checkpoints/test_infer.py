"""Sizes from tensor shapes, the rest from model_config.json, and no contradiction between them."""

from __future__ import annotations

import copy
import json
import logging
from typing import Any

import pytest

from sa3_core.checkpoints import infer
from sa3_core.checkpoints.config_json import build_config, read_config
from sa3_core.errors import CheckpointError, ConfigError
from sa3_core.networks.config import DiTConfig, ModelConfig, ResamplerConfig, SAMEConfig
from tests.helpers.make_checkpoint import specs_for

Shapes = dict[str, tuple[int, ...]]
DIT, SAME = "model.model.", "pretransform.model."


def published(variant: str) -> tuple[dict[str, Any], Shapes | None, Shapes]:
    """Config, DiT shapes (None for an autoencoder alone) and SAME shapes of a variant."""
    config, specs = specs_for(variant)
    shapes = {spec.name: spec.shape for spec in specs}
    if variant.startswith("same"):
        return config, None, shapes
    dit = {k.removeprefix(DIT): v for k, v in shapes.items() if k.startswith(DIT)}
    same = {k.removeprefix(SAME): v for k, v in shapes.items() if k.startswith(SAME)}
    return config, dit, same


def built(
    variant: str = "tiny-s", config: dict[str, Any] | None = None, **changes: Any
) -> ModelConfig:
    """Build a config after changing values at dotted paths (dots written as `__`)."""
    raw, dit, same = published(variant)
    raw = copy.deepcopy(config or raw)
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = raw
        for key in parents:
            part = part[int(key)] if isinstance(part, list) else part[key]
        if value is Ellipsis:
            del part[last]
        else:
            part[last] = value
    return build_config(dit, same, raw)


def same_s(channels: int, depth: int) -> SAMEConfig:
    style = {"chunk": 32, "window": None, "width": channels * 6, "depth": depth, "channels": 512}
    return SAMEConfig(
        ResamplerConfig(kernel=1, **style), ResamplerConfig(kernel=3, mask_noise=0.01, **style)
    )


def same_l(channels: int, depth: int, sinusoidal: int) -> SAMEConfig:
    style = {"chunk": None, "window": 1, "width": channels * 6, "depth": depth, "channels": 512}
    style["kernel"] = 1
    return SAMEConfig(ResamplerConfig(**style), ResamplerConfig(sinusoidal=sinusoidal, **style))


SIZES = {
    "tiny-s": (DiTConfig(128, 3, 2, False), same_s(32, 4)),
    "tiny-m": (DiTConfig(128, 3, 2, True), same_l(32, 4, 3)),
    "small-music": (DiTConfig(1024, 20, 16, False), same_s(128, 6)),
    "small-music-base": (DiTConfig(1024, 20, 16, False), same_s(128, 6)),
    "medium": (DiTConfig(1536, 24, 24, True), same_l(256, 12, 8)),
    "medium-base": (DiTConfig(1536, 24, 24, True), same_l(256, 12, 8)),
    "same-s": (None, same_s(128, 6)),
    "same-l": (None, same_l(256, 12, 8)),
}


@pytest.mark.parametrize("variant", SIZES)
def test_published_files_with_their_config(variant):
    config = built(variant)
    assert (config.dit, config.same) == SIZES[variant]
    small = variant in ("tiny-s", "same-s") or variant.startswith("small")
    assert config.sample_size == (5_292_032 if small else 16_777_216)
    if config.dit is None:
        assert config.objective is None
    else:
        base = variant.endswith("-base")
        assert config.objective == ("rectified_flow" if base else "rf_denoiser")
        assert (config.max_prompt_tokens, config.min_seconds, config.max_seconds) == (256, 0, 384)
        assert config.shift is None


@pytest.mark.parametrize("variant", [name for name in SIZES if name != "tiny-m"])
def test_published_files_without_a_config(variant):
    """tiny-m alone is no published size: its sinusoidal layers are in its config only."""
    _, dit, same = published(variant)
    config = build_config(dit, same, None)
    assert (config.dit, config.same) == SIZES[variant]
    assert config.objective is None
    assert config.sample_size is None


@pytest.mark.parametrize(
    ("spelling", "new"),
    [
        ("mapping.weight_v", "mapping.parametrizations.weight.original1"),
        ("mapping.weight_v", "mapping.weight"),
    ],
)
def test_every_spelling_of_the_mapping_convolution_tells_its_size(spelling, new):
    _, dit, same = published("tiny-s")
    renamed = {key.replace(spelling, new): shape for key, shape in same.items()}
    assert build_config(dit, renamed, None).same == SIZES["tiny-s"][1]


DIFFUSION = "model__diffusion__config__"
ENCODER = "model__pretransform__config__encoder__config__"
DECODER = "model__pretransform__config__decoder__config__"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (DIFFUSION + "depth", 4),
        (DIFFUSION + "embed_dim", 256),
        (DIFFUSION + "num_heads", 4),
        (DIFFUSION + "io_channels", 64),
        (DIFFUSION + "cond_token_dim", 1024),
        (DIFFUSION + "global_cond_dim", 1024),
        (DIFFUSION + "local_add_cond_dim", 256),
        (DIFFUSION + "timestep_features_dim", 128),
        (DIFFUSION + "num_memory_tokens", 32),
        (DIFFUSION + "attn_kwargs__differential", True),
        (ENCODER + "channels", 64),
        (ENCODER + "c_mults", [4]),
        (ENCODER + "transformer_depths", [5]),
        (ENCODER + "in_channels", 256),
        (ENCODER + "conv_mapping", True),
        (DECODER + "conv_mapping", False),
        (DECODER + "out_channels", 256),
        ("model__pretransform__config__latent_dim", 64),
    ],
)
def test_a_config_that_contradicts_the_tensors_is_refused(path, value):
    key = path.split("__")[-1]
    with pytest.raises(ConfigError, match=key):
        built(**{path: value})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (DIFFUSION + "transformer_type", "x-transformers"),
        (DIFFUSION + "global_cond_type", "prepend"),
        (DIFFUSION + "timestep_features_type", "learned"),
        (DIFFUSION + "timestep_features_logsnr", True),
        (DIFFUSION + "norm_type", "layer_norm"),
        (DIFFUSION + "norm_kwargs__force_fp32", False),
        (DIFFUSION + "attn_kwargs__qk_norm", "ln"),
        (DIFFUSION + "patch_size", 2),
        ("model__diffusion__diffusion_objective", "v"),
        ("model__diffusion__cross_attention_cond_ids", ["prompt"]),
        ("model__diffusion__global_cond_ids", ["seconds_start", "seconds_total"]),
        ("model__diffusion__local_add_cond_ids", ["melody"]),
        (ENCODER + "strides", [8]),
        (ENCODER + "dim_heads", 32),
        (ENCODER + "differential", False),
        (ENCODER + "dyt", False),
        (ENCODER + "variable_stride", False),
        (ENCODER + "chunk_midpoint_shift", False),
        (ENCODER + "chunk_size", 40),
        (DECODER + "sliding_window", [1, 2]),
        ("model__conditioning__cond_dim", 1024),
        ("model__conditioning__configs__0__type", "t5"),
        ("model__conditioning__configs__0__config__padding_mode", "zero"),
        ("model__conditioning__configs__1__config__fourier_features_type", "learned"),
        ("sample_rate", 48000),
        ("audio_channels", 1),
    ],
)
def test_what_is_not_implemented_is_refused(path, value):
    key = path.split("__")[-1]
    with pytest.raises(ConfigError, match=key):
        built(**{path: value})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (ENCODER + "chunk_size", "many"),
        (ENCODER + "c_mults", ["six"]),
        (DECODER + "sinusoidal_blocks", [None, "all"]),
        (DECODER + "mask_noise", [0.1]),
        (DIFFUSION + "attn_kwargs", "flash"),
        ("model__conditioning", []),
        ("model__conditioning__configs__0__config__max_length", "long"),
        ("sample_size", True),
        ("model__diffusion", None),
        ("model__pretransform", None),
    ],
)
def test_values_of_a_wrong_kind_are_refused(path, value):
    with pytest.raises(ConfigError):
        built(**{path: value})


@pytest.mark.parametrize(
    "path",
    [
        DIFFUSION + "depth",
        DIFFUSION + "norm_kwargs",
        DIFFUSION + "attn_kwargs",
        DIFFUSION + "patch_size",
        ENCODER + "sliding_window",
        ENCODER + "strides",
        DECODER + "sinusoidal_blocks",
        "model__diffusion__sampling_distribution_shift_options",
        "model__diffusion__distribution_shift_options",
        "model__conditioning__configs__1__config__max_val",
        "model__conditioning__configs__0__config",
        "model__conditioning",
    ],
)
def test_null_means_the_default(path):
    assert built(**{path: None}) == built()


def test_the_chunk_default_is_128():
    assert built(**{ENCODER + "chunk_size": None}).same.encoder.chunk == 128
    assert built(**{ENCODER + "chunk_size": ...}).same.encoder.chunk == 128


def test_values_that_shapes_cannot_tell_come_from_the_config():
    shift = {"type": "flux", "alpha_max": 5}
    config = built(
        model__diffusion__diffusion_objective="rectified_flow",
        model__diffusion__sampling_distribution_shift_options=shift,
        model__conditioning__configs__0__config__max_length=64,
        model__conditioning__configs__1__config__max_val=512,
        sample_size=2_097_152,
    )
    assert config.objective == "rectified_flow"
    assert config.shift == shift
    assert (config.max_prompt_tokens, config.max_seconds) == (64, 512)
    assert config.sample_size == 2_097_152
    assert built(model__diffusion__diffusion_objective=...).objective is None


def test_training_shift_options_are_not_used_for_sampling():
    options = {"type": "full", "min_length": 1, "max_length": 2}
    assert built(model__diffusion__distribution_shift_options=options) == built()


def test_unknown_keys_give_one_warning_and_load(caplog, monkeypatch):
    monkeypatch.setattr(infer, "_warned", set())
    changes = {
        DIFFUSION + "use_checkpointing": True,
        DIFFUSION + "dropout": 0.1,
        "model__training": {"lr": 1e-4},
        "demo_prompts": ["a", "b"],
    }
    with caplog.at_level(logging.WARNING):
        assert built(**changes) == built()
        built(**changes)
    assert len(caplog.records) == 1
    assert "dropout, use_checkpointing" in caplog.text


def test_missing_and_odd_tensors_are_named():
    raw, dit, same = published("tiny-s")
    lacking = {k: v for k, v in dit.items() if k != "transformer.memory_tokens"}
    with pytest.raises(CheckpointError, match=r"transformer\.memory_tokens"):
        build_config(lacking, same, raw)
    with pytest.raises(CheckpointError, match=r"project_in\.weight.*dimensions"):
        build_config({**dit, "transformer.project_in.weight": (128,)}, same, raw)
    odd = "transformer.layers.0.self_attn.to_qkv.weight"
    with pytest.raises(CheckpointError, match="attention rows 512 for width 128"):
        build_config({**dit, odd: (512, 128)}, same, raw)
    lacking = {k: v for k, v in same.items() if not k.endswith("mapping.weight_v")}
    with pytest.raises(CheckpointError, match=r"mapping\.weight_v"):
        build_config(dit, lacking, None)


def test_a_full_config_with_a_generator_alone_needs_no_autoencoder():
    raw, dit, _ = published("tiny-s")
    config = build_config(dit, None, raw)
    assert config.same is None
    assert config.dit == SIZES["tiny-s"][0]


def test_read_config_refuses_what_is_no_object(tmp_path):
    path = tmp_path / "model_config.json"
    path.write_text(json.dumps({"model": {}}), encoding="utf-8")
    assert read_config(path) == {"model": {}}
    for content in (b"[1, 2]", b"{", b"\xff\xfe{}", b""):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"model_config\.json"):
            read_config(path)
    with pytest.raises(ConfigError):
        read_config(tmp_path / "none.json")


def test_a_byte_order_mark_is_fine_and_deep_json_is_refused(tmp_path):
    path = tmp_path / "model_config.json"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"model": {}}')
    assert read_config(path) == {"model": {}}
    path.write_text('{"a":' * 50_000 + "1" + "}" * 50_000)
    with pytest.raises(ConfigError, match=r"model_config\.json"):
        read_config(path)
