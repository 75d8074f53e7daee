"""LoRAs on our MODEL through ComfyUI's patching, against the core's formula."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.support import rel_l2

ADAPTERS = Path(__file__).parents[2] / "golden"
SECONDS = 2.0


@pytest.fixture(scope="session")
def loras(bridge, comfyui):
    """The bridge's LoRA modules, with the golden adapters of tiny-s in models/loras."""
    folder = comfyui / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(ADAPTERS.glob("tiny-s/adapter_*.safetensors")):
        shutil.copy(path, folder / path.name)
    for path in sorted(ADAPTERS.glob("tiny-m/adapter_lora.safetensors")):
        shutil.copy(path, folder / "medium.safetensors")
    names = {"loras": "nodes.bridge.work.loras", "patch": "nodes.bridge.sockets.lora_patch"}
    names |= {"use": "sa3_core.adapters.use", "filter": "sa3_core.adapters.layer_filter"}
    names |= {"file": "sa3_core.adapters.file", "build": "sa3_core.adapters.build"}
    modules = {k: importlib.import_module(f"sa3_pack.{name}") for k, name in names.items()}
    return SimpleNamespace(**modules)


TYPES = [t + x for x in ("", "-xs") for t in ("lora", "dora-rows", "dora-cols", "bora")]


def use(loras, name, **settings):
    layers = loras.filter.LayerFilter(settings.pop("layer_filter", ""))
    settings = {"layers": layers, "strength_conditioner": 1.0, **settings}
    return loras.use.AdapterUse(f"adapter_{name}.safetensors", **settings)


def sample(bridge, patcher, prompt, batch=1, seconds=(SECONDS,), **settings):
    latent = bridge.coding.empty_latent(list(seconds), batch)
    out, notes = bridge.sampling.sample(
        patcher,
        latent,
        bridge.core_settings.SampleSettings(**{"steps": 4, **settings}),
        prompt,
        None,
        bridge.core_noise.Seeds(1),
    )
    assert not [note for note in notes if "does not use" in note]
    return out["samples"]


def expected_weights(loras, patcher, names, strength=1.0):
    """Merged weights by host key, by the core's pure functions."""
    weights = {}
    originals = {k: v.clone() for k, v in patcher.model.state_dict().items()}
    for name in names:
        file = loras.file.read_adapter(loras.loras.lora_path(f"adapter_{name}.safetensors"))
        by_key = {key: originals[loras.loras._host_key(key)] for key in file.layers}
        for key, adapter in loras.build.build_adapter(file, by_key).items():
            host = loras.loras._host_key(key)
            weights[host] = adapter.apply(weights.get(host, originals[host]), strength)
    return weights


@pytest.mark.parametrize("adapter_type", TYPES)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_full_and_partial_load_give_the_formulas_weights(
    mm, bridge, loras, patcher, adapter_type, strength
):
    expected = expected_weights(loras, patcher, [adapter_type], strength)
    chosen = use(loras, adapter_type, strength=strength, strength_conditioner=strength)
    patched, _ = loras.loras.apply_lora(patcher, chosen, "test")
    mm.load_models_gpu([patched])
    state = patched.model.state_dict()
    assert max(rel_l2(state[key], value) for key, value in expected.items()) <= 1e-6
    mm.unload_all_models()
    patched.partially_load(patched.load_device, 1)
    modules = dict(patched.model.named_modules())
    checked = 0
    for key, value in expected.items():
        module = modules[key.removesuffix(".weight")]
        for function in module.weight_function:
            assert rel_l2(function(module.weight.clone()), value) <= 1e-6
            checked += 1
    assert checked > len(expected) / 2
    patched.detach()


def test_a_stack_is_chained_in_order(mm, bridge, loras, patcher):
    names = ["stack0_lora", "stack1_dora-rows"]
    expected = expected_weights(loras, patcher, names)
    patched = patcher
    for name in names:
        patched, _ = loras.loras.apply_lora(patched, use(loras, name), "test")
    mm.load_models_gpu([patched])
    state = patched.model.state_dict()
    assert max(rel_l2(state[key], value) for key, value in expected.items()) <= 1e-6
    patched.detach()


def test_strength_zero_and_removal_restore_bits(mm, bridge, loras, patcher, prompt):
    before = {k: v.clone() for k, v in patcher.model.state_dict().items()}
    plain = sample(bridge, patcher, prompt)
    zero, notes = loras.loras.apply_lora(
        patcher, use(loras, "bora", strength=0.0, strength_conditioner=0.0), "test"
    )
    assert any("unchanged" in note for note in notes)
    assert torch.equal(sample(bridge, zero, prompt), plain)
    full, _ = loras.loras.apply_lora(patcher, use(loras, "bora"), "test")
    assert not torch.equal(sample(bridge, full, prompt), plain)
    assert torch.equal(sample(bridge, patcher, prompt), plain)
    after = patcher.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_two_clones_do_not_disturb_each_other(bridge, loras, patcher, prompt):
    a, _ = loras.loras.apply_lora(patcher, use(loras, "lora"), "test")
    b, _ = loras.loras.apply_lora(patcher, use(loras, "dora-cols"), "test")
    first_a, first_b = sample(bridge, a, prompt), sample(bridge, b, prompt)
    assert not torch.equal(first_a, first_b)
    assert torch.equal(sample(bridge, a, prompt), first_a)
    assert torch.equal(sample(bridge, b, prompt), first_b)


def test_changing_the_strength_reads_no_file(loras, patcher, monkeypatch):
    loras.loras.apply_lora(patcher, use(loras, "lora"), "test")

    def refuse(path):
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(loras.loras, "read_adapter", refuse)
    loras.loras.apply_lora(patcher, use(loras, "lora", strength=0.3), "test")


def test_an_interval_that_holds_every_step_equals_no_interval(bridge, loras, patcher, prompt):
    always, _ = loras.loras.apply_lora(patcher, use(loras, "lora"), "test")
    nearly, _ = loras.loras.apply_lora(patcher, use(loras, "lora", interval=(0.001, 1.0)), "test")
    assert torch.equal(sample(bridge, nearly, prompt), sample(bridge, always, prompt))


def test_an_interval_that_holds_no_step_equals_the_dit_without_it(bridge, loras, patcher, prompt):
    only_conditioner, _ = loras.loras.apply_lora(patcher, use(loras, "lora", strength=0.0), "test")
    never, _ = loras.loras.apply_lora(patcher, use(loras, "lora", interval=(0.0, 0.01)), "test")
    assert torch.equal(sample(bridge, never, prompt), sample(bridge, only_conditioner, prompt))


def test_intervals_are_exact_per_step(bridge, loras, patcher, prompt, monkeypatch):
    """The weights at every call are those of the noise level of that call."""
    gated, _ = loras.loras.apply_lora(patcher, use(loras, "lora", interval=(0.5, 0.99)), "test")
    key = "transformer.layers.0.self_attn.to_out"
    module = dict(patcher.model.diffusion_model.named_modules())[key]
    original = module.weight.clone()
    seen = []
    net = type(patcher.model.diffusion_model)
    velocity = net.velocity

    def spy(self, x, t, constants):
        seen.append((float(t[0]), torch.equal(module.weight, original)))
        return velocity(self, x, t, constants)

    monkeypatch.setattr(net, "velocity", spy)
    sample(bridge, gated, prompt, sampler="euler", steps=8)
    assert len(seen) == 8
    assert {inside for t, unpatched in seen if (inside := 0.5 <= t <= 0.99) == unpatched} == set()
    assert {unpatched for _, unpatched in seen} == {True, False}


def test_items_on_different_sides_of_an_interval(bridge, loras, patcher, prompt):
    """With a shift that depends on length, items reach the interval at different steps."""
    gated, _ = loras.loras.apply_lora(patcher, use(loras, "lora", interval=(0.4, 0.8)), "test")
    settings = {"shift": "full", "sampler": "euler", "steps": 6}
    lengths = (2.0, 60.0)
    both = sample(bridge, gated, prompt, seconds=lengths, **settings)
    first = sample(bridge, gated, prompt, seconds=lengths[:1], **settings)
    frames = 22
    assert rel_l2(both[:1, :, :frames], first[:, :, :frames]) < 1e-4


def test_stock_samplers_follow_the_interval(bridge, loras, patcher, prompt):
    gated, _ = loras.loras.apply_lora(patcher, use(loras, "lora", interval=(0.4, 0.99)), "test")
    comfy_sample = importlib.import_module("comfy.sample")
    ours = sample(bridge, gated, prompt, sampler="euler", steps=8)
    latent = torch.zeros(1, 256, ours.shape[-1])
    cond = [[prompt[0][0], {**prompt[0][1], "seconds_total": SECONDS}]]
    noise = comfy_sample.prepare_noise(latent, 1)
    arguments = (8, 1.0, "euler", "simple", cond, cond, latent)
    stock = comfy_sample.sample(gated, noise, *arguments, disable_pbar=True, seed=1)
    frames = 22
    assert rel_l2(stock[..., :frames], ours[..., :frames]) < 1e-4
    plain = comfy_sample.sample(patcher, noise, *arguments, disable_pbar=True, seed=1)
    assert rel_l2(plain[..., :frames], ours[..., :frames]) > 1e-3


def test_layer_filter_counts_and_limits(bridge, loras, patcher):
    patched, notes = loras.loras.apply_lora(
        patcher, use(loras, "lora", layer_filter="layers[0-1].self_attn"), "test"
    )
    keys = set(patched.patches)
    assert keys
    assert all("self_attn" in key and ("layers.0" in key or "layers.1" in key) for key in keys)
    assert f"{len(keys)} of " in notes[1]


def test_a_lora_for_another_model_is_an_error_or_a_choice(bridge, loras, patcher):
    wrong = loras.use.AdapterUse("medium.safetensors")
    with pytest.raises(Exception, match="does not fit this model") as refused:
        loras.loras.apply_lora(patcher, wrong, "test")
    assert "medium" in str(refused.value)
    partly = loras.use.AdapterUse("medium.safetensors", partial=True)
    patched, notes = loras.loras.apply_lora(patcher, partly, "test")
    assert patched.patches
    assert "fit the model" in notes[1]


def test_names_cannot_leave_the_folder(loras):
    for name in ("../x.safetensors", "a/../../x.safetensors"):
        with pytest.raises(ValueError, match="out of the loras folders"):
            loras.loras.lora_path(name)


def test_foreign_models_are_refused(loras):
    with pytest.raises(ValueError, match="Load SA3 Model"):
        loras.loras.apply_lora(SimpleNamespace(model=object()), use(loras, "lora"), "LoRA Loader")


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_a_merged_file_is_the_patched_model(
    bridge, loras, tiny_s, comfyui, prompt, precision, tmp_path
):
    single = tmp_path / "stable_audio_3_tiny.safetensors"
    shutil.copy(tiny_s / "model.safetensors", single)
    patcher = bridge.model.load_patcher(str(single), "tiny", "fp32", "auto")
    patched = patcher
    for name in ("dora-rows", "bora-xs"):
        chosen = use(loras, name, strength=0.7, layer_filter="-layers[2]")
        patched, _ = loras.loras.apply_lora(patched, chosen, "test")
    path = loras.loras.save_merged(patched, f"merged/{precision}", precision, False)
    assert comfyui / "output" in path.parents
    tensors, source = load_file(path), load_file(single)
    assert {k: v.shape for k, v in tensors.items()} == {k: v.shape for k, v in source.items()}
    if precision == "auto":
        assert all(tensors[key].dtype == source[key].dtype for key in source)
    again = bridge.model.load_patcher(str(path), "merged", "auto", "auto")
    bound = 1e-5 if precision == "auto" else 0.1
    assert rel_l2(sample(bridge, again, prompt), sample(bridge, patched, prompt)) < bound
    native = importlib.import_module("comfy.sd").load_checkpoint_guess_config(
        str(path), output_vae=False, output_clip=False
    )[0]
    assert type(native.model).__name__ == "StableAudio3"
    state = native.model.diffusion_model.state_dict()
    ours = {k.removeprefix("model.model."): v for k, v in tensors.items() if "model.model." in k}
    assert set(ours) <= set(state)
    assert all(torch.equal(state[key].float(), value.float()) for key, value in ours.items())


def test_what_cannot_be_merged_says_so(loras, patcher):
    gated, _ = loras.loras.apply_lora(patcher, use(loras, "lora", interval=(0.2, 0.8)), "test")
    with pytest.raises(ValueError, match="has no intervals"):
        loras.loras.save_merged(gated, "merged/x", "auto", False)
    foreign = patcher.clone()
    key = "diffusion_model.transformer.layers.0.self_attn.to_out.weight"
    foreign.add_patches({key: ("diff", (torch.zeros(128, 128),))})
    with pytest.raises(ValueError, match="patches of other nodes"):
        loras.loras.save_merged(foreign, "merged/x", "auto", False)
