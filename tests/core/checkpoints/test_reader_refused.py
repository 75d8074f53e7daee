"""What does not belong is refused, by name: wrong tensors, wrong files, damaged files."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from sa3_core.checkpoints.load import load_model, load_same
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.errors import CheckpointError

DIT, SAME, CONDITIONER = "model.model.", "pretransform.model.", "conditioner."


def autoencoder_alone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(SAME): v for k, v in tensors.items() if k.startswith(SAME)}


# --- strictness ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("key", "part"),
    [
        (DIT + "transformer.layers.1.ff.ff.0.proj.bias", "dit"),
        (DIT + "to_global_embed.0.weight", "dit"),
        (SAME + "encoder.layers.0.transformers.3.ff_norm.beta", "same"),
        (CONDITIONER + "conditioners.prompt.padding_embedding", "dit"),
    ],
)
def test_a_missing_tensor_is_named(tiny_weights, write, key, part):
    path = write({k: v for k, v in tiny_weights.items() if k != key})
    inner = key.removeprefix(DIT).removeprefix(SAME).removeprefix(CONDITIONER)
    with pytest.raises(CheckpointError, match=f"missing: 1 .{inner}"):
        load_model(path) if part == "dit" else load_same(open_checkpoint(path, ("same",)))


@pytest.mark.parametrize(
    "key",
    [
        DIT + "transformer.layers.1.self_attn.to_out.bias",
        DIT + "new_head.weight",
        SAME + "encoder.layers.3.weight",
        SAME + "discriminator.weight",
        CONDITIONER + "conditioners.seconds_start.embedder.embedding.1.weight",
        CONDITIONER + "extra",
    ],
)
def test_an_unknown_tensor_under_our_prefixes_is_refused(tiny_weights, write, key):
    path = write({**tiny_weights, key: torch.zeros(3)})
    with pytest.raises(CheckpointError, match="unknown: 1"):
        load_same(open_checkpoint(path, ("same",))) if SAME in key else load_model(path)


def test_an_unknown_tensor_in_a_standalone_autoencoder_is_refused(tiny_weights, write):
    path = write({**autoencoder_alone(tiny_weights), "bottleneck.codebook": torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r"unknown: 1 \(bottleneck\.codebook"):
        load_same(open_checkpoint(path, ("same",)))


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("transformer.layers.2.ff.ff.2.bias", r"\(127,\) instead of \(128,\)"),
        ("transformer.layers.2.cross_attn.to_q.weight", r"\(127, 128\) instead of \(128, 128\)"),
        ("preprocess_conv.weight", r"\(255, 256, 1\) instead of \(256, 256, 1\)"),
    ],
)
def test_a_tensor_of_another_shape_is_named_with_both_shapes(tiny_weights, write, key, shape):
    path = write({**tiny_weights, DIT + key: tiny_weights[DIT + key][:-1]})
    with pytest.raises(CheckpointError, match=rf"wrong shape: 1 \({key} {shape}"):
        load_model(path)


def test_long_lists_of_faults_are_cut(tiny_weights, write):
    path = write({k: v for k, v in tiny_weights.items() if "layers.1." not in k})
    with pytest.raises(CheckpointError, match=r"missing: 21 \(.*, \.\.\.\)"):
        load_model(path)


def test_other_prefixes_give_one_log_line(tiny_weights, write, caplog):
    others = {"text_encoders.t5.a": torch.zeros(1), "optimizer.b": torch.zeros(1)}
    path = write({**tiny_weights, **others})
    with caplog.at_level(logging.INFO, "sa3_core.checkpoints.reader"):
        open_checkpoint(path)
    lines = [r for r in caplog.records if "ignored" in r.getMessage()]
    assert len(lines) == 1
    assert "2 tensors" in lines[0].getMessage()


# --- other files --------------------------------------------------------------------------------
def test_an_autoencoder_in_the_model_loader_is_refused(tiny_weights, write):
    path = write(autoencoder_alone(tiny_weights), "same_s.safetensors")
    with pytest.raises(CheckpointError, match=r"SAME autoencoder only.*Open it as an autoencoder"):
        load_model(path)


def test_a_model_without_an_autoencoder_is_refused_in_the_autoencoder_loader(tiny_weights, write):
    tensors = {k: v for k, v in tiny_weights.items() if not k.startswith(SAME)}
    path = write(tensors)
    assert load_model(path).config.same is None
    with pytest.raises(CheckpointError, match="lacks the autoencoder"):
        open_checkpoint(path, ("same",))
    with pytest.raises(CheckpointError, match="holds no autoencoder"):
        load_same(open_checkpoint(path, ("dit",)))


STABLE_DIFFUSION = (
    "model.diffusion_model.input_blocks.0.0.weight",
    "first_stage_model.encoder.conv_in.weight",
    "first_stage_model.decoder.conv_in.weight",
    "cond_stage_model.transformer.text_model.final_layer_norm.weight",
)
STABLE_DIFFUSION_XL = (
    "model.diffusion_model.time_embed.0.weight",
    "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight",
    "first_stage_model.encoder.conv_in.weight",
)
IMAGE_VAE = ("encoder.conv_in.weight", "decoder.conv_in.weight")


@pytest.mark.parametrize("need", [("dit", "conditioner"), ("same",)])
@pytest.mark.parametrize("keys", [STABLE_DIFFUSION, STABLE_DIFFUSION_XL, IMAGE_VAE, ("a",)])
def test_an_image_checkpoint_is_refused(write, keys, need):
    path = write({key: torch.zeros(4) for key in keys}, "sd15.safetensors")
    with pytest.raises(CheckpointError, match=r"sd15\.safetensors is not a Stable Audio 3 file"):
        open_checkpoint(path, need)


@pytest.mark.parametrize("keep", [0, 4, 2000, 0.5, 0.999])
def test_a_truncated_file_is_refused(tiny_s, tmp_path, keep):
    content = (tiny_s / "model.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors.*[Dd]ownload it again"):
        open_checkpoint(path)


def test_pickles_and_missing_files_are_refused(tmp_path):
    for name in ("model.ckpt", "model.pt", "model.bin"):
        (tmp_path / name).write_bytes(b"PK\x03\x04pickle")
        with pytest.raises(CheckpointError, match=r"only \.safetensors"):
            open_checkpoint(tmp_path / name)
    for path in (tmp_path / "none.safetensors", tmp_path / "none.ckpt", tmp_path):
        with pytest.raises(CheckpointError, match="no such file"):
            open_checkpoint(path)
    pickled = tmp_path / "renamed.safetensors"
    torch.save({"a": torch.zeros(2)}, pickled)
    with pytest.raises(CheckpointError, match=r"renamed\.safetensors"):
        open_checkpoint(pickled)
