"""Weight-only int8 and float8: what is stored, what comes out, and the host's management of it."""

from __future__ import annotations

import importlib

import pytest
import torch

from tests.nodes.sockets.test_management import run_partially, sample
from tests.nodes.work import test_loras
from tests.nodes.work.test_loras import loras, use  # noqa: F401 - `loras` is a fixture

STORED = {"int8": torch.int8, "fp8_e4m3": torch.float8_e4m3fn}
LEAST_DB = {"int8": 33.0, "fp8_e4m3": 22.0}
LAYER = "diffusion_model.transformer.layers.0.self_attn.to_out"


@pytest.fixture(scope="module")
def module(bridge):
    return importlib.import_module("sa3_pack.nodes.bridge.sockets.quantised")


@pytest.fixture(autouse=True)
def integers(bridge, monkeypatch):
    """The core's module; weights are widened on every processor unless a test says otherwise."""
    core = importlib.import_module("sa3_pack.sa3_core.networks.integer")
    monkeypatch.setattr(core, "IN_INTEGERS", False)
    return core


@pytest.fixture(params=STORED)
def name(request):
    return request.param


@pytest.fixture
def narrowed(bridge, tiny_s, name):
    return bridge.model.load_patcher(str(tiny_s), "tiny-s", name, "auto")


def snr_db(found, wanted):
    return float(20 * torch.log10(wanted.norm() / (found - wanted).norm()))


def layer(patcher, path=LAYER):
    return dict(patcher.model.named_modules())[path]


def quantised(patcher):
    """Names of the weights that lie in 8 bits."""
    tensor = importlib.import_module("comfy.quant_ops").QuantizedTensor
    return {key for key, value in patcher.model.named_parameters() if isinstance(value, tensor)}


def test_the_loader_offers_them_and_load_same_does_not(pack):
    loaders = importlib.import_module("sa3_pack.nodes.loaders")
    offered = {}
    for node in loaders.NODES:
        entries = {entry.id: entry for entry in node.define_schema().inputs}
        offered[node.__name__] = entries["precision"].options
    plain = ["auto", "fp32", "bf16", "fp16"]
    assert offered == {"SA3LoadModel": [*plain, "fp8_e4m3", "int8"], "SA3LoadSAME": plain}


def test_only_what_this_comfyui_can_do_is_offered(module, mm, monkeypatch):
    monkeypatch.setattr(mm, "get_torch_device", lambda: torch.device("mps"))
    assert module.quantised_formats() == ["int8"]
    monkeypatch.delitem(module.comfy.quant_ops.QUANT_ALGOS, "int8_tensorwise")
    assert module.quantised_formats() == []
    monkeypatch.undo()
    monkeypatch.setattr(module.comfy.quant_ops, "_CK_AVAILABLE", False)
    assert module.quantised_formats() == []


def test_the_blocks_matrices_are_narrow_and_nothing_else(narrowed, name):
    inside = quantised(narrowed)
    blocks = {k for k, v in narrowed.model.named_parameters() if ".layers." in k and v.ndim == 2}
    assert inside == {key for key in blocks if ".to_local_embed." not in key}
    state = narrowed.model.state_dict()
    assert all(state[key].dtype == STORED[name] for key in inside)
    floats = {v.dtype for k, v in narrowed.model.named_parameters() if k not in inside}
    assert floats == {torch.float32}
    assert narrowed.model.get_dtype_inference() == torch.float32


def test_the_host_counts_the_narrow_size(narrowed, patcher):
    saved = patcher.model_size() - narrowed.model_size()
    elements = sum(dict(narrowed.model.named_parameters())[k].numel() for k in quantised(narrowed))
    assert saved == pytest.approx(3 * elements, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_widening_rounds_once(module, narrowed, dtype):
    weight = layer(narrowed).weight
    exact = weight._qdata.double() * weight._params.scale.double()
    wide = module.widen(weight.to(dtype))
    assert wide.dtype == dtype
    assert float((wide - exact).norm() / exact.norm()) < 0.5 * torch.finfo(dtype).eps
    assert snr_db(wide.float(), weight.dequantize().float()) > 45


def test_a_weight_of_zeros_stays_zero(module, name):
    key = "transformer.layers.0.ff.ff.2.weight"
    stored = module.quantise_tensors({key: torch.zeros(8, 16)}, name, torch.float32)
    values, scale = stored[key], stored[f"{key}_scale"]
    assert torch.equal(values.float() * scale, torch.zeros(8, 16))


def test_the_result_is_near_the_unquantised_one(bridge, narrowed, patcher, prompt, name):
    out, whole = sample(bridge, narrowed, prompt), sample(bridge, patcher, prompt)
    assert snr_db(out, whole) > LEAST_DB[name]
    assert not torch.equal(out, whole)


@pytest.mark.parametrize("budget", [1, 200_000])
def test_partial_load_gives_identical_output(mm, bridge, narrowed, prompt, budget):
    whole = sample(bridge, narrowed, prompt)
    mm.unload_all_models()
    part, resident = run_partially(mm, bridge, narrowed, prompt, budget)
    assert resident < narrowed.model_size()
    assert torch.equal(part, whole)


def test_the_host_can_make_a_classic_patcher_again(bridge, narrowed, prompt):
    factory, arguments = narrowed.cached_patcher_init
    again = factory(*arguments, disable_dynamic=True)
    assert torch.equal(sample(bridge, again, prompt), sample(bridge, narrowed, prompt))


def test_a_stock_sampler_runs_it(bridge, narrowed, prompt):
    comfy_sample = importlib.import_module("comfy.sample")
    ours = test_loras.sample(bridge, narrowed, prompt, sampler="euler", steps=8)
    cond = [[prompt[0][0], {**prompt[0][1], "seconds_total": 2.0}]]
    latent = torch.zeros(1, 256, ours.shape[-1])
    noise = comfy_sample.prepare_noise(latent, 1)
    arguments = (8, 1.0, "euler", "simple", cond, cond, latent)
    stock = comfy_sample.sample(narrowed, noise, *arguments, disable_pbar=True, seed=1)
    assert snr_db(stock[..., :22], ours[..., :22]) > 80


def test_a_processor_for_integers_multiplies_int8_as_it_lies(
    bridge, tiny_s, patcher, prompt, integers, monkeypatch
):
    narrowed = bridge.model.load_patcher(str(tiny_s), "tiny-s", "int8", "auto")
    widened, plain = sample(bridge, narrowed, prompt), sample(bridge, patcher, prompt)
    monkeypatch.setattr(integers, "IN_INTEGERS", True)
    monkeypatch.setattr(integers, "BFLOAT16_IS_FASTER", False)
    seen, product = [], torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (seen.append(1), product(a, b))[1])
    found = sample(bridge, narrowed, prompt)
    assert len(seen) > 3 * len(quantised(narrowed)) / 2  # three steps; the context's rows are few
    assert not torch.equal(found, widened)
    assert snr_db(found, plain) > 30


def test_a_clones_patch_acts_and_leaves_no_trace(bridge, narrowed, prompt, name):
    plain = sample(bridge, narrowed, prompt)
    before = narrowed.model.state_dict()[f"{LAYER}.weight"].clone()
    clone = narrowed.clone()
    change = torch.full(before.shape, 0.05)
    clone.add_patches({f"{LAYER}.weight": ("diff", (change,))})
    wide = layer(narrowed).weight.dequantize()
    patched = sample(bridge, clone, prompt)
    assert snr_db(layer(narrowed).weight.dequantize(), wide + change) > LEAST_DB[name]
    assert not torch.equal(patched, plain)
    assert torch.equal(sample(bridge, narrowed, prompt), plain)
    assert torch.equal(narrowed.model.state_dict()[f"{LAYER}.weight"], before)


def test_a_lora_does_what_it_does_to_the_unquantised_model(
    mm,
    bridge,
    loras,  # noqa: F811
    narrowed,
    patcher,
    prompt,
    name,
):
    def with_lora(model):
        return loras.loras.apply_lora(model, use(loras, "dora-rows"), "test")[0]

    plain, whole = sample(bridge, narrowed, prompt), sample(bridge, with_lora(patcher), prompt)
    patched = with_lora(narrowed)
    resident = sample(bridge, patched, prompt)
    assert quantised(patched) == quantised(narrowed)
    assert snr_db(resident, whole) > LEAST_DB[name] - 6  # rounded a second time
    mm.unload_all_models()
    streamed, _ = run_partially(mm, bridge, patched, prompt, 1)
    assert snr_db(streamed, whole) > LEAST_DB[name]
    assert torch.equal(sample(bridge, narrowed, prompt), plain)


def test_a_lora_with_an_interval(bridge, loras, narrowed, prompt):  # noqa: F811
    def with_lora(*interval):
        return loras.loras.apply_lora(narrowed, use(loras, "lora", interval=interval), "test")[0]

    plain, always = sample(bridge, narrowed, prompt), sample(bridge, with_lora(0.0, 1.0), prompt)
    assert torch.equal(sample(bridge, with_lora(0.001, 1.0), prompt), always)
    part = sample(bridge, with_lora(0.5, 0.99), prompt)
    assert not torch.equal(part, always)
    assert not torch.equal(part, plain)
    assert torch.equal(sample(bridge, narrowed, prompt), plain)


def test_stock_saving_is_refused_and_ours_merges_the_original(
    bridge,
    loras,  # noqa: F811
    narrowed,
    patcher,
    mm,
):
    for model in (narrowed, narrowed.clone()):
        with pytest.raises(bridge.core_errors.InputError, match=r"8 bits.*Save SA3 Model"):
            model.state_dict_for_saving()
        mm.load_models_gpu([model])
    files = [loras.loras.save_merged(p, "narrow/m", "auto", False) for p in (narrowed, patcher)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_node_says_what_is_stored_and_computed(bridge, narrowed, name):
    stored = str(STORED[name]).removeprefix("torch.")
    (line,) = [line for line in bridge.loading.describe(narrowed) if "computed" in line]
    assert line.startswith(f"{stored}, computed in float32, up to ")


def test_only_the_transformer_is_narrow(bridge, tiny_s, comfyui, name):
    import shutil

    files = importlib.import_module("sa3_pack.nodes.bridge.host.folders")
    files.register_folder()
    folder = comfyui / "models" / "stable_audio_3"
    shutil.copytree(tiny_s, folder / "tiny-narrow")
    try:
        choice = bridge.loading.ModelChoice("tiny-narrow", precision=name)
        model, clip, vae = bridge.loading.load_all(choice)
        assert quantised(model)
        for patcher in (clip.patcher, vae.patcher):
            assert {p.dtype for p in patcher.model.parameters()} == {torch.float32}
    finally:
        shutil.rmtree(folder / "tiny-narrow")


def test_rounding_is_comfyuis_own(module, name):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(24, 40, generator=generator) * torch.logspace(-4, 1, 24)[:, None]
    key = "transformer.layers.0.ff.ff.2.weight"
    ours = module.quantise_tensors({key: weight}, name, torch.float32)
    algorithm = module.FORMATS[name]
    layout = module.comfy.quant_ops.QUANT_ALGOS[algorithm]["comfy_tensor_layout"]
    most = torch.finfo(torch.float8_e4m3fn).max
    how = {"per_channel": True} if name == "int8" else {"scale": weight.abs().amax() / most}
    theirs = module.comfy.quant_ops.QuantizedTensor.from_float(weight, layout, **how)
    for suffix, tensor in theirs.state_dict(key).items():
        assert torch.equal(ours[suffix].float(), tensor.float())
        assert ours[suffix].dtype == tensor.dtype


def test_the_command_line_gives_the_same_latents(bridge, narrowed, prompt, tiny_s, name):
    load = importlib.import_module("sa3_pack.sa3_core.checkpoints.load")
    sampling = importlib.import_module("sa3_pack.sa3_core.sampling.sample")
    core = load.load_model(tiny_s, dtype=torch.float32, storage=name)
    latent = bridge.coding.empty_latent([2.0], 1)
    start = bridge.core_start.StartLatent(latent["samples"], (2.0,))
    text = bridge.values.text_conditioning(prompt, "positive")
    settings = bridge.core_settings.SampleSettings(steps=3)
    seeds = bridge.core_noise.Seeds(1)
    out = sampling.sample_latent(core, start, settings, text, None, seeds)
    assert snr_db(out, sample(bridge, narrowed, prompt)) > 100
