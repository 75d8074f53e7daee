"""Text encoder files that are missing, damaged, of another model, or contradict their config."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sa3_core.errors import CheckpointError, ConfigError
from sa3_core.text.encoder import load_t5gemma
from sa3_core.text.encoder_file import read_encoder_file
from tests.helpers.text_encoder_files import (
    FOLDER,
    copy_folder,
    encoder_tensors,
    train_spiece,
    write_single_file,
)

LAYER = "model.encoder.layers.1."


def test_sizes_come_from_the_shapes(tiny_s: Path, tmp_path: Path) -> None:
    single = write_single_file(tmp_path / "t5.safetensors", encoder_tensors(tiny_s))
    config = read_encoder_file(single).config
    assert (config.vocabulary, config.layers, config.mlp_width) == (512, 2, 64)
    assert (config.heads, config.kv_heads, config.head_dim) == (2, 2, 64)
    assert config == read_encoder_file(tiny_s / FOLDER).config


def test_settings_come_from_the_config(tiny_s: Path, tmp_path: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        encoder = config["encoder"]
        encoder.update(query_pre_attn_scalar=256, attn_logit_softcapping=30.0)
        encoder.update(rope_theta=500.0, rope_parameters=None)  # how older files say it

    config = read_encoder_file(copy_folder(tiny_s, tmp_path / "t5", edit)).config
    assert (config.query_scalar, config.softcap, config.rope_theta) == (256, 30.0, 500.0)
    encoder = load_t5gemma(tmp_path / "t5").encoder.encoder
    assert encoder.layers[0].self_attn.scaling == 1 / 16
    assert encoder.layers[0].self_attn.attn_logit_softcapping == 30.0
    assert encoder.rotary_emb.inv_freq[-1].item() == pytest.approx(500 ** (-62 / 64))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 12),
        ("vocab_size", 256000),
        ("hidden_size", 1024),
        ("attention_bias", True),
        ("hidden_activation", "silu"),
        ("attn_logit_softcapping", None),
        ("head_dim", 0),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 10000.0}),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    key: str, value: object, tiny_s: Path, tmp_path: Path
) -> None:
    folder = copy_folder(tiny_s, tmp_path / "t5", lambda c: c["encoder"].update({key: value}))
    shown = "rope_type" if key == "rope_parameters" else key
    with pytest.raises(ConfigError, match=shown):
        load_t5gemma(folder)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"model_type": "t5"}), '{"encoder": 3}'])
def test_an_unreadable_config_is_refused(text: str, tiny_s: Path, tmp_path: Path) -> None:
    folder = copy_folder(tiny_s, tmp_path / "t5")
    (folder / "config.json").write_text(text)
    with pytest.raises(ConfigError, match="cannot be read as a T5Gemma config"):
        load_t5gemma(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({LAYER + "mlp.up_proj.weight": None}, r"missing: 1 .*layers\.1\.mlp\.up_proj"),
        ({LAYER + "self_attn.q_norm.weight": torch.ones(64)}, r"unknown: 1 .*q_norm"),
        ({LAYER + "mlp.up_proj.weight": torch.ones(65, 768)}, r"wrong shape: 1 .*\(65, 768\)"),
        ({"model.encoder.embed_tokens.weight": None}, "holds no T5Gemma encoder"),
        ({"model.encoder.layers.0.self_attn.q_proj.weight": None}, r"lacks .*q_proj"),
        (
            {"model.encoder.layers.0.self_attn.q_proj.weight": torch.ones(320, 768)},
            "320 query and 128 key rows",
        ),
        ({"model.encoder.embed_tokens.weight": torch.ones(512, 512)}, r"shape \(512, 512\)"),
    ],
)
def test_other_tensors_are_refused(
    changes: dict[str, torch.Tensor | None], message: str, tiny_s: Path, tmp_path: Path
) -> None:
    tensors = encoder_tensors(tiny_s) | changes
    held = {key: tensor for key, tensor in tensors.items() if tensor is not None}
    path = write_single_file(tmp_path / "odd.safetensors", held)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_t5gemma(path)
    assert "odd.safetensors" in str(caught.value)


def test_quantised_weights_are_refused(tiny_s: Path, tmp_path: Path) -> None:
    tensors = encoder_tensors(tiny_s)
    path = write_single_file(tmp_path / "q.safetensors", tensors, torch.float8_e4m3fn)
    with pytest.raises(CheckpointError, match=r"text encoder: .*; weights must be .*unquantised"):
        load_t5gemma(path)


def test_a_model_without_text_encoder_is_refused(tiny_s: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no T5Gemma encoder"):
        load_t5gemma(tiny_s / "model.safetensors")


def test_a_single_file_without_tokenizer_is_refused(tiny_s: Path, tmp_path: Path) -> None:
    save_file(encoder_tensors(tiny_s), tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match="holds no spiece_model"):
        load_t5gemma(tmp_path / "bare.safetensors")


TOKENIZERS = {
    "its folder's tokenizer.json": "tokenizer.json",
    "a whole folder beside it": FOLDER,
    "a SentencePiece model": "tokenizer.model",
    "a SentencePiece model, named otherwise": "spiece.model",
    "a repackaged file": "t5gemma_b_b_ul2.safetensors",
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_raw_file_takes_the_tokenizer_beside_it(kind, tiny_s: Path, tmp_path: Path) -> None:
    raw = tmp_path / "t5gemma-b-b-ul2.safetensors"
    save_file(encoder_tensors(tiny_s), raw)
    name = TOKENIZERS[kind]
    if name == FOLDER:
        copy_folder(tiny_s, tmp_path / FOLDER)
    elif name.endswith(".json"):
        shutil.copy(tiny_s / FOLDER / name, tmp_path)
    elif name.endswith(".model"):
        (tmp_path / name).write_bytes(train_spiece())
    else:
        write_single_file(tmp_path / name, encoder_tensors(tiny_s))
    if name in (FOLDER, "tokenizer.json"):
        expected = load_t5gemma(tiny_s / FOLDER)
    else:
        expected = load_t5gemma(write_single_file(tmp_path / "whole", encoder_tensors(tiny_s)))
    (prompt,) = load_t5gemma(raw).tokenize(["warm synth pad"], 256)
    assert prompt == expected.tokenize(["warm synth pad"], 256)[0]
    assert prompt.ids


def test_missing_and_truncated_files_are_refused(tiny_s: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_t5gemma(tmp_path / "nothing.safetensors")
    folder = copy_folder(tiny_s, tmp_path / "t5")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="cut short"):
        load_t5gemma(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        load_t5gemma(folder)


def test_other_tensors_are_named_once_in_the_log(
    tiny_s: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = encoder_tensors(tiny_s) | {"logit_scale": torch.ones(1), "vision.a": torch.ones(1)}
    path = write_single_file(tmp_path / "t5.safetensors", tensors)
    with caplog.at_level(logging.INFO, logger="sa3_core"):
        read_encoder_file(path)
    (record,) = caplog.records
    assert record.getMessage().startswith("t5.safetensors: ignored 2 other tensors")
