"""Every kind of LoRA file does to our MODEL's weights what ComfyUI's own loader makes of it."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import lora_tensors
from tests.helpers.support import rel_l2

SHAPES = {
    "transformer.layers.1.self_attn.to_out": (128, 128),
    "transformer.layers.1.ff.ff.0.proj": (1024, 128),
    "transformer.layers.1.cross_attn.to_kv": (256, 128),
    "preprocess_conv": (256, 256, 1),
}
CASES = [(path, kind) for path, shape in SHAPES.items() for kind in lora_tensors.kinds(shape)]


@pytest.fixture(scope="session")
def core(pack):
    """The core's LoRA modules, as the pack has them."""
    names = ("file", "build", "packing")
    modules = {n: importlib.import_module(f"sa3_pack.sa3_core.adapters.{n}") for n in names}
    return SimpleNamespace(**modules)


@pytest.fixture(scope="session")
def stock(comfyui, bridge, tiny_s):
    """(LoRA file, key, weight, strength) -> the weight as ComfyUI's loader patches it."""
    lora = importlib.import_module("comfy.lora")
    model = bridge.model.load_patcher(str(tiny_s), "tiny-s", "fp32", "auto").model
    keys = lora.model_lora_keys_unet(model, {})

    def patched(path: Path, key: str, weight: torch.Tensor, strength: float) -> torch.Tensor:
        patches = lora.load_lora(load_file(path), keys, log_missing=False)
        entry = [(strength, patches[key], 1.0, None, None)]
        return lora.calculate_weight(entry, weight.clone(), key)

    return patched


def built(core, path: Path, shapes: dict[str, tuple[int, ...]]):
    """What our reader makes of a file, checked against shapes by checkpoint key."""
    file = core.file.read_adapter(path)
    report = core.build.match(file, shapes)
    return core.build.build_adapter(file, {}, core.build.require_fit(report)), report


@pytest.mark.parametrize(("path", "kind"), CASES)
def test_every_kind_equals_the_stock_loader(core, stock, tmp_path, kind, path):
    shape = SHAPES[path]
    found = lora_tensors.kinds(shape)
    file = tmp_path / "a.safetensors"
    save_file({f"diffusion_model.{path}.{n}": t for n, t in found[kind].items()}, file)
    key = f"model.model.{path}.weight"
    weight = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    changes, _ = built(core, file, {key: shape})
    # The host takes changes apart, moves the tensors and builds them again.
    change = core.packing.unpack(changes[key].pack())
    for strength in (1.0, 0.6, -1.5):
        expected = stock(file, f"diffusion_model.{path}.weight", weight, strength)
        assert rel_l2(change.apply(weight, strength), expected) <= 1e-5
        assert rel_l2(expected, weight) > 1e-3
    assert change.apply(weight, 0.0) is weight


DIT = "diffusion_model."
FF = "transformer.layers.0.ff.ff.2"
OTHERS = {  # path in the file -> (host key, tensor)
    f"{FF}.diff_b": (f"{FF}.bias", (128,)),
    "transformer.layers.0.pre_norm.gamma.diff": (None, (128,)),
    "transformer.layers.0.self_attn.q_norm.gamma.set_weight": (None, (64,)),
    "transformer.layers.2.to_scale_shift_gate.diff": (None, (768,)),
    "transformer.memory_tokens.diff": (None, (64, 128)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_biases_and_gains_equal_the_stock_loader(core, stock, tmp_path, name):
    host, shape = OTHERS[name]
    host = DIT + (host or name.rpartition(".")[0])
    file = tmp_path / "a.safetensors"
    generator = torch.Generator().manual_seed(2)
    tensors = {DIT + name: torch.randn(shape, generator=generator)}
    save_file(tensors, file)
    key = host.replace(DIT, "model.model.")
    changes, report = built(core, file, {key: shape})
    assert report.unused == ()
    old = torch.randn(shape, generator=generator)
    expected = stock(file, host, old, 0.7)
    assert rel_l2(changes[key].apply(old, 0.7), expected) <= 1e-6


def test_what_the_stock_loader_leaves_out_is_what_we_name(core, stock, tmp_path, caplog):
    """Apart from what we do use: a bias of lora_B, b_norm alone."""
    layer = f"{DIT}transformer.layers.1.self_attn.to_out"
    kinds = lora_tensors.kinds((128, 128))
    tensors = {f"{layer}.{name}": tensor for name, tensor in kinds["lora, alpha"].items()}
    left = {
        "text_encoders.t5gemma.transformer.layers.0.q.lora_up.weight": torch.ones(4, 4),
        "text_encoders.t5gemma.transformer.layers.0.q.lora_down.weight": torch.ones(4, 4),
        f"{layer}.rescale": torch.ones(128, 1),
        "iteration": torch.ones(1),
    }
    file = tmp_path / "a.safetensors"
    save_file({**tensors, **left}, file)
    with caplog.at_level("WARNING"):
        stock(file, f"{layer}.weight", torch.zeros(128, 128), 1.0)
    _, report = built(
        core, file, {"model.model.transformer.layers.1.self_attn.to_out.weight": (128, 128)}
    )
    assert set(report.unused) == set(left)
    lora = importlib.import_module("comfy.lora")
    caplog.clear()
    with caplog.at_level("WARNING"):
        lora.load_lora(load_file(file), {layer: f"{layer}.weight"})
    named = {record.message.rpartition(": ")[2] for record in caplog.records}
    assert named == set(left)
