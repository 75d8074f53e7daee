"""Files that ComfyUI quantised, in Load SA3 Model: its own loader's numbers."""

from __future__ import annotations

import importlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.quantised_files import LAYOUTS, quantised_layers, quantised_tensors
from tests.nodes.sockets.test_management import sample

NAME = "stable_audio_3_small_music.safetensors"


@pytest.fixture(scope="module")
def weights(tiny_s):
    return load_file(tiny_s / "model.safetensors")


@pytest.fixture(params=LAYOUTS)
def made(request, weights):
    return quantised_tensors(weights, request.param)


def save(made, folder, wide=False):
    folder.mkdir(exist_ok=True)
    tensors = made.wide if wide else made.tensors
    metadata = {"format": "pt", **({} if wide else made.metadata)}
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / NAME, metadata)
    return folder / NAME


def test_the_weights_are_those_that_the_stock_loader_widens(bridge, made, tmp_path):
    path = save(made, tmp_path / "narrow")
    ours = dict(bridge.model.load_patcher(str(path), NAME, "fp32", "auto").model.named_parameters())
    sd = importlib.import_module("comfy.sd")
    theirs = sd.load_checkpoint_guess_config(str(path), output_vae=False, output_clip=False)[0]
    kind, compared, narrow = importlib.import_module("comfy.quant_ops").QuantizedTensor, 0, 0
    for key, value in theirs.model.diffusion_model.named_parameters():
        narrow += isinstance(value, kind)
        wide = value.dequantize() if isinstance(value, kind) else value
        mine = ours.get(f"diffusion_model.{key}")
        if mine is None or wide.dim() != 2:
            continue
        assert torch.equal(mine, wide.float()), key
        compared += 1
    assert compared >= 15
    assert narrow == len(quantised_layers(made.tensors))


def test_the_model_computes_as_with_the_wide_weights(bridge, made, prompt, tmp_path):
    folders = (save(made, tmp_path / "narrow"), save(made, tmp_path / "wide", wide=True))
    patchers = [bridge.model.load_patcher(str(path), NAME, "fp32", "auto") for path in folders]
    narrow, wide = (sample(bridge, patcher, prompt) for patcher in patchers)
    assert float((narrow - wide).norm() / wide.norm()) < 1e-6


def test_an_unknown_format_is_named(bridge, weights, tmp_path):
    made = quantised_tensors(weights, "int8")
    key = next(key for key in made.tensors if key.endswith("layers.0.ff.ff.2.comfy_quant"))
    made.tensors[key] = torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8)
    path = save(made, tmp_path / "odd")
    with pytest.raises(bridge.core_errors.CheckpointError, match=r"layers\.0\.ff\.ff\.2.*as nvfp4"):
        bridge.model.load_patcher(str(path), NAME, "auto", "auto")


@pytest.mark.parametrize("precision", ["int8", "fp8_e4m3"])
def test_the_stock_loader_widens_what_save_sa3_model_wrote(bridge, tiny_s, precision, tmp_path):
    merge = importlib.import_module("sa3_pack.sa3_core.adapters.merge").merge_checkpoint
    path = merge(tiny_s, [], tmp_path / NAME, storage=precision)
    stored = bridge.model.load_patcher(str(tiny_s), "tiny-s", precision, "auto").model
    expected = dict(stored.named_parameters())
    sd = importlib.import_module("comfy.sd")
    kind = importlib.import_module("comfy.quant_ops").QuantizedTensor
    theirs = sd.load_checkpoint_guess_config(str(path), output_vae=False, output_clip=False)[0]
    compared = 0
    for key, value in theirs.model.diffusion_model.named_parameters():
        mine = expected.get(f"diffusion_model.{key}")
        if isinstance(value, kind):
            assert isinstance(mine, kind), key
            assert torch.equal(value.dequantize().float(), mine.dequantize().float()), key
            compared += 1
    assert compared == sum(isinstance(value, kind) for value in expected.values()) > 10
