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


LOOSE = {name: shape for name, (host, shape) in OTHERS.items() if host is None}


@pytest.fixture
def lora(comfyui, bridge):
    """Tensors of a LoRA file in models/loras that changes a weight, a bias, gains and tokens."""
    generator = torch.Generator().manual_seed(4)
    tensors = {
        DIT + name: 0.3 * torch.randn(shape, generator=generator)
        for name, (_, shape) in OTHERS.items()
    }
    tensors["conditioner.conditioners.prompt.padding_embedding.diff"] = torch.ones(768)
    layer = lora_tensors.kinds((128, 512))["loha, dora"]
    tensors |= {f"{DIT}{FF}.{name}": tensor for name, tensor in layer.items()}
    folder = comfyui / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "mixed.safetensors")
    return tensors


@pytest.fixture
def apply(bridge, core):
    """(MODEL, settings of the use) -> the MODEL with the file on it, and what the node says."""
    work = importlib.import_module("sa3_pack.nodes.bridge.work.loras")
    use = importlib.import_module("sa3_pack.sa3_core.adapters.use").AdapterUse
    return lambda model, **settings: work.apply_lora(
        model, use("mixed.safetensors", **settings), "LoRA Loader"
    )


def parameters(patcher) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in patcher.model.state_dict().items()}


def wanted(lora, before, strength):
    """The gains, tokens and the bias as they are to be, by the host's key."""
    out = {}
    for name, tensor in lora.items():
        target, _, role = name.rpartition(".")
        if role not in ("diff", "set_weight", "diff_b"):
            continue
        key = f"{target}.bias" if role == "diff_b" else target
        out[key] = tensor if role == "set_weight" else before[key] + strength * tensor
    return out


@pytest.mark.parametrize("memory", [None, 1])
def test_gains_tokens_and_biases_are_changed_and_come_back(mm, lora, apply, patcher, memory):
    before = parameters(patcher)
    patched, notes = apply(patcher, strength=0.5, strength_conditioner=0.5)
    kinds = "diff, loha, dora_scale, bias, set_weight"
    assert notes[0] == f"mixed.safetensors: {kinds}, rank 4, alpha 4"
    assert notes[1] == "6 of 6 layers active, 6 fit the model"
    expected = wanted(lora, before, 0.5)
    if memory is None:
        mm.load_models_gpu([patched])
    else:
        patched.partially_load(patched.load_device, memory)  # next to nothing fits
    state = parameters(patched)
    for key, value in expected.items():
        if memory is None or not key.endswith(".bias"):  # a bias is changed where it is used
            assert rel_l2(state[key], value) <= 1e-6, key
    if memory is None:
        mm.load_models_gpu([patched])  # once more: nothing is changed twice
        assert all(rel_l2(parameters(patched)[k], v) <= 1e-6 for k, v in expected.items())
    patched.detach()
    after = parameters(patcher)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_change_of_the_strength_reaches_the_gains(mm, lora, apply, patcher):
    before = parameters(patcher)
    for strength in (1.0, -0.5, 0.0):
        patched, _ = apply(patcher, strength=strength, strength_conditioner=strength)
        mm.load_models_gpu([patched])
        expected = wanted(lora, before, strength) if strength else before
        state = parameters(patched)
        assert all(rel_l2(state[key], value) <= 1e-6 for key, value in expected.items())
    twice, _ = apply(apply(patcher)[0])
    mm.load_models_gpu([twice])
    key = f"{DIT}transformer.layers.0.pre_norm.gamma"
    assert rel_l2(parameters(twice)[key], before[key] + 2 * lora[f"{key}.diff"]) <= 1e-6
    twice.detach()


def test_gains_follow_the_interval(mm, lora, apply, patcher):
    patch = importlib.import_module("sa3_pack.nodes.bridge.sockets.lora_patch")
    before = parameters(patcher)
    gated, _ = apply(patcher, interval=(0.4, 0.8))
    sets = patch.PatcherSets(gated, 0)
    key = f"{DIT}transformer.layers.2.to_scale_shift_gate"
    for level, inside in ((1.0, False), (0.5, True), (0.2, False), (0.6, True)):
        sets.activate(sets.active(level))
        now = patcher.model.state_dict()[key]
        expected = before[key] + lora[f"{key}.diff"] if inside else before[key]
        assert rel_l2(now, expected) <= 1e-6
        padding = "conditioner.conditioners.prompt.padding_embedding"  # always on
        assert rel_l2(patcher.model.state_dict()[padding], before[padding] + 1) <= 1e-6
    mm.unload_all_models()


def test_the_stock_lora_loader_gives_the_same_model(mm, lora, apply, patcher):
    """But for parameters beside sub-modules, which it finds and does not change."""
    comfy_sd = importlib.import_module("comfy.sd")
    stock, _ = comfy_sd.load_lora_for_models(patcher, None, lora, 0.6, 0.0)
    ours, _ = apply(patcher, strength=0.6, strength_conditioner=0.0)
    before = parameters(patcher)
    states = []
    for model in (stock, ours):
        mm.load_models_gpu([model])
        states.append(parameters(model))
    theirs, mine = states
    differ = {key for key in theirs if rel_l2(mine[key], theirs[key]) > 1e-6}
    assert differ == {
        f"{DIT}transformer.memory_tokens",
        f"{DIT}transformer.layers.2.to_scale_shift_gate",
    }
    assert all(torch.equal(theirs[key], before[key]) for key in differ)
    changed = {key for key in mine if not torch.equal(mine[key], before[key])}
    assert len(changed) == len(OTHERS) + 1  # and the LoHa
    mm.unload_all_models()


def test_a_merged_file_holds_biases_gains_and_tokens(lora, apply, patcher):
    work = importlib.import_module("sa3_pack.nodes.bridge.work.loras")
    patched, _ = apply(patcher, strength=0.5)
    path = work.save_merged(patched, "merged/mixed", "auto", False)
    before = parameters(patcher)
    merged = load_file(path)
    for key, value in wanted(lora, before, 0.5).items():
        assert rel_l2(merged[key.replace(DIT, "model.model.")], value) <= 1e-6, key


def test_the_node_names_what_is_not_used(core, lora, apply, patcher, comfyui):
    layer = f"{DIT}transformer.layers.1.self_attn.to_out"
    bias = {f"{layer}.lora_B.bias": torch.ones(128), "text_encoder.x.diff": torch.ones(4)}
    save_file({**lora, **bias}, comfyui / "models" / "loras" / "mixed.safetensors")
    _, notes = apply(patcher)
    assert notes[2] == f"2 tensors are not used: text_encoder.x.diff, {layer}.lora_B.bias"
    web = importlib.import_module("sa3_pack.nodes.bridge.web.loras")
    info = web.lora_info("mixed.safetensors", "")
    assert (info["layers"], info["active"], info["unused"]) == (7, 7, 1)


@pytest.mark.parametrize("algorithm", ["LoRA", "LoHa", "LoKr", "OFT"])
def test_files_of_comfyuis_own_trainer_are_read_whole(core, patcher, tmp_path, algorithm):
    """Made as its node makes them on our MODEL, every value drawn anew; the oracle is its loader.

    For LoKr of convolutions it is the training itself: there the loader mixes up the axes.
    """
    train = importlib.import_module("comfy_extras.nodes_train")
    lora = importlib.import_module("comfy.lora")
    with torch.inference_mode(False):
        tensors, _ = train._setup_lora_adapters(patcher, {}, algorithm, torch.float32, 8)
    generator = torch.Generator().manual_seed(6)
    drawn = {
        name: value.detach().clone()
        if name.endswith("alpha")
        else 0.05 * torch.randn(value.shape, generator=generator)
        for name, value in tensors.items()
    }
    file = tmp_path / "a.safetensors"
    save_file(drawn, file)
    state = parameters(patcher)
    shapes = {key.replace(DIT, "model.model."): tuple(value.shape) for key, value in state.items()}
    changes, report = built(core, file, shapes)
    assert report.unused == ()
    assert set(changes) == {k for k in shapes if k.endswith((".weight", ".bias"))}
    keys = {key.removesuffix(".weight"): key for key in state if key.endswith(".weight")}
    for key, patch in lora.load_lora(drawn, keys, log_missing=False).items():
        entry = [(0.8, patch, 1.0, None, None)]
        if algorithm == "LoKr" and state[key].ndim == 3:
            expected = torch.lerp(state[key], patch.to_train()(state[key]), 0.8)
        else:
            expected = lora.calculate_weight(entry, state[key].clone(), key)
        ours = changes[key.replace(DIT, "model.model.")].apply(state[key], 0.8)
        assert rel_l2(ours, expected) <= 1e-5, key
