"""`sa3 merge`."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.helpers.cli_support import DORA, LORA
from tests.helpers.support import rel_l2


def test_merge_gives_what_the_loras_give(sa3, make, tiny_s):
    patched = make("--seconds", 1.5, "--lora", LORA, "--lora", f"{DORA}:0.5")
    code, out, err = sa3(
        *("merge", "--model", "tiny-s", "--lora", LORA, f"{DORA}:0.5", "--out", "merged"),
        "--copy-text-encoder",
    )
    assert (code, out, err) == (0, [str(Path("merged", "model.safetensors"))], "")
    assert rel_l2(make("--seconds", 1.5, "--model", "./merged"), patched) < 1e-6
    again = ("merge", "--model", "tiny-s", "--lora", f"{LORA}:0", "--out", "merged")
    assert sa3(*again)[0] == 1  # it exists
    assert sa3(*again, "--force")[0] == 0
    weights = load_file("merged/model.safetensors")
    for key, value in load_file(tiny_s / "model.safetensors").items():
        assert torch.equal(weights[key], value)


def test_merge_into_one_file_in_another_precision(sa3, make):
    merge = ("merge", "--model", "tiny-s", "--lora", LORA, "--lora-filter", "layers[0]")
    code, out, _ = sa3(*merge, "--dtype", "bf16", "--out", "m.safetensors")
    assert (code, out) == (0, ["m.safetensors"])
    merged = load_file("m.safetensors")
    assert merged["model.model.preprocess_conv.weight"].dtype == torch.bfloat16
    encoder = ("--text-encoder", "tiny-s/t5gemma-b-b-ul2")
    filtered = make("--seconds", 1.5, "--lora", LORA, "--lora-filter", "layers[0]")
    assert rel_l2(make("--seconds", 1.5, "--model", "./m.safetensors", *encoder), filtered) < 0.1
    code, _, err = sa3(*merge, "--out", "n.safetensors", "--copy-text-encoder")
    assert code == 1
    assert "only be copied into a folder" in err


def test_several_loras_become_one_that_does_the_same(sa3, make):
    pair = (LORA, f"{LORA}:-0.4")
    code, out, err = sa3("merge", "--lora", *pair, "--out", "one.safetensors")
    assert (code, out, err) == (0, ["one.safetensors"], "")
    stack = make("--seconds", 0.5, "--lora", pair[0], "--lora", pair[1])
    assert rel_l2(make("--seconds", 0.5, "--lora", "one.safetensors"), stack) < 1e-5
    assert sa3("merge", "--lora", *pair, "--out", "one.safetensors")[0] == 1  # it exists
    for arguments, said in (
        (("--lora", LORA, DORA, "--out", "b.safetensors"), "does more than add"),
        (("--lora", LORA, "--out", "folder"), "name it with --model"),
        (("--lora", LORA, "--out", "b.safetensors", "--precision", "bf16"), "--precision"),
    ):
        code, _, err = sa3("merge", *arguments)
        assert code == 1
        assert said in err


def test_merging_a_base_model_into_one_file_warns(sa3, tiny_s, tmp_path):
    base = tmp_path / "mine-base"
    base.mkdir()
    (base / "model.safetensors").write_bytes((tiny_s / "model.safetensors").read_bytes())
    config = (tiny_s / "model_config.json").read_text()
    (base / "model_config.json").write_text(config.replace("rf_denoiser", "rectified_flow"))
    code, _, err = sa3("merge", "--model", base, "--lora", LORA, "--out", "m.safetensors")
    assert code == 0
    assert "--objective rectified_flow" in err
    assert sa3("merge", "--model", base, "--lora", LORA, "--out", "m_base.safetensors")[2] == ""


def test_a_model_is_written_in_8_bits_without_any_lora(sa3, tiny_s):
    code, out, err = sa3(
        *("merge", "--model", "tiny-s", "--precision", "int8", "--out", "small_music.safetensors")
    )
    assert (code, out, err) == (0, ["small_music.safetensors"], "")
    key = "model.model.transformer.layers.0.ff.ff.2"
    weights = load_file("small_music.safetensors")
    assert weights[f"{key}.weight"].dtype == torch.int8
    assert bytes(weights[f"{key}.comfy_quant"].tolist()) == b'{"format": "int8_tensorwise"}'
