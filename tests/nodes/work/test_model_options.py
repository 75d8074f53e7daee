"""Options of stock nodes on our MODEL: honoured in SA3 Sampler, or named; stock runs of it."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.helpers.support import rel_l2


@pytest.fixture(scope="module")
def stock(pack) -> SimpleNamespace:
    """ComfyUI's node classes that change a MODEL, called by name, and its KSampler."""
    host = importlib.import_module("nodes")
    importlib.import_module("comfy_extras.nodes_post_processing")
    names = "model_advanced pag slg cfg apg tcfg differential_diffusion easycache eps mahiro latent"
    extras = [importlib.import_module(f"comfy_extras.nodes_{name}") for name in names.split()]

    def call(name: str, *args: Any, **kwargs: Any) -> Any:
        cls = next(vars(module)[name] for module in extras if name in vars(module))
        if hasattr(cls, "FUNCTION"):
            return getattr(cls(), cls.FUNCTION)(*args, **kwargs)[0]
        return cls.execute(*args, **kwargs).args[0]

    def ksampler(model: Any, prompt: Any, latent: Any, **other: Any) -> Any:
        given = {"steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", **other}
        return host.common_ksampler(
            model, 1, positive=prompt, negative=prompt, latent=latent, **given
        )[0]

    return SimpleNamespace(call=call, ksampler=ksampler)


def sample(bridge, patcher, prompt, latent=None, **settings):
    return bridge.sampling.sample(
        patcher,
        bridge.coding.empty_latent([1.0], 1) if latent is None else latent,
        bridge.core_settings.SampleSettings(**{"steps": 3, **settings}),
        prompt,
        None,
        bridge.core_noise.Seeds(1),
    )


FLOWS = {  # what ComfyUI calls a shift -> a of a t / (1 + (a - 1) t)
    "ModelSamplingSD3": ((3.0,), 3.0),
    "ModelSamplingAuraFlow": ((1.73,), 1.73),
    "ModelSamplingFlux": ((1.15, 0.5, 512, 512), 2.718281828 ** (0.5 + 0.65 * 768 / 3840)),
}


@pytest.mark.parametrize("node", FLOWS)
def test_a_flows_shift_is_the_schedules(bridge, stock, patcher, prompt, node):
    values, alpha = FLOWS[node]
    shifted = stock.call(node, patcher, *values)
    options = {"alpha_min": alpha, "alpha_max": alpha}
    out, notes = sample(bridge, shifted, prompt)
    wanted, _ = sample(bridge, patcher, prompt, shift="flux", shift_options=options)
    plain, _ = sample(bridge, patcher, prompt)
    assert rel_l2(out["samples"], wanted["samples"]) < 1e-4
    assert rel_l2(out["samples"], plain["samples"]) > 1e-2
    assert any(f"schedule shift {alpha:g}, of ModelSampling" in note for note in notes)
    own, notes = sample(bridge, shifted, prompt, shift="logsnr")
    assert torch.equal(own["samples"], plain["samples"])
    assert any("node's own shift counts" in note for note in notes)
    sigmas, notes = bridge.sampling.schedule(
        shifted, bridge.core_settings.SampleSettings(steps=3), None, 1.0
    )
    assert sigmas[1] == pytest.approx(alpha * (2 / 3) / (1 + (alpha - 1) * 2 / 3), abs=1e-5)
    assert "schedule shift" in notes[0]


def _wrapper(model, kind, **more):
    clone = model.clone()
    if kind == "unet":
        clone.set_model_unet_function_wrapper(lambda apply, args: None)
    elif kind == "object":
        clone.add_object_patch("extra_conds", lambda **kwargs: {})
    elif kind == "latent format":
        clone.add_object_patch("latent_format", object())
    elif kind == "wrapper":
        clone.add_wrapper_with_key("diffusion_model", "tea_cache", lambda *args: None)
    elif kind == "attention":
        clone.set_model_attn1_patch(lambda *args: args)
    elif kind == "options":
        clone.model_options["transformer_options"]["rel_l1_thresh"] = 0.4
    return clone


UNUSED = {
    "ModelSamplingContinuousV": (("v_prediction", 500.0, 0.03), "ModelSamplingContinuousV"),
    "ModelSamplingContinuousEDM": (("edm", 120.0, 0.002), "ModelSamplingContinuousEDM with EDM"),
    "ModelSamplingDiscrete": (("v_prediction", False), "V_PREDICTION"),
    "ModelSamplingStableCascade": ((2.0,), "StableCascadeSampling"),
    "ModelNoiseScale": ((2.0,), "noise scale 2"),
    "RescaleCFG": ((0.7,), "sampler_cfg_function"),
    "PerturbedAttentionGuidance": ((3.0,), "sampler_post_cfg_function"),
    "CFGZeroStar": ((), "sampler_post_cfg_function"),
    "APG": ((1.0, 5.0, 0.0), "sampler_pre_cfg_function"),
    "TCFG": ((), "sampler_pre_cfg_function"),
    "DifferentialDiffusion": ((1.0,), "denoise_mask_function"),
    "Mahiro": ((), "sampler_post_cfg_function"),
    "SkipLayerGuidanceDiT": ((3.0, 0.01, 0.15, "7", "7"), "sampler_post_cfg_function"),
    "SkipLayerGuidanceDiTSimple": ((0.0, 1.0, "7", "7"), "sampler_calc_cond_batch_function"),
    "EasyCacheNode": ((0.2, 0.15, 0.95, False), "easycache"),
    "LazyCacheNode": ((0.2, 0.15, 0.95, False), "easycache"),
    "unet": ((), "model_function_wrapper"),
    "object": ((), "object patch 'extra_conds'"),
    "latent format": ((), "object patch 'latent_format'"),
    "wrapper": ((), "diffusion_model wrapper 'tea_cache'"),
    "attention": ((), "patches"),
    "options": ((), "rel_l1_thresh"),
}


@pytest.mark.parametrize("node", UNUSED)
def test_what_is_not_used_is_named(bridge, stock, patcher, node):
    values, named = UNUSED[node]
    options = importlib.import_module("sa3_pack.nodes.bridge.work.model_options")
    changed = stock.call(node, patcher, *values) if node[0].isupper() else _wrapper(patcher, node)
    settings = bridge.core_settings.SampleSettings(steps=3)
    same, notes = options.honour_options(changed, settings)
    assert same == settings
    assert len(notes) == 1
    assert notes[0].startswith("SA3 Sampler does not use these model options: ")
    assert named in notes[0]
    assert options.honour_options(patcher, settings) == (settings, [])


def test_compute_dtype_is_honoured(bridge, stock, patcher, prompt):
    plain, _ = sample(bridge, patcher, prompt)
    out, notes = sample(bridge, stock.call("ModelComputeDtype", patcher, "bf16"), prompt)
    assert 1e-4 < rel_l2(out["samples"], plain["samples"]) < 0.2
    assert not [note for note in notes if "does not use" in note]
    again, _ = sample(bridge, patcher, prompt)
    assert torch.equal(again["samples"], plain["samples"])


def test_noise_scale_works_in_stock_samplers(bridge, stock, patcher, prompt):
    latent = bridge.coding.empty_latent([1.0], 1)
    plain = stock.ksampler(patcher, prompt, latent)["samples"]
    same = stock.ksampler(stock.call("ModelNoiseScale", patcher, 1.0), prompt, latent)["samples"]
    louder = stock.ksampler(stock.call("ModelNoiseScale", patcher, 2.0), prompt, latent)["samples"]
    assert torch.equal(plain, same)
    assert rel_l2(louder, plain) > 0.1


def with_seconds(prompt, seconds):
    audio = importlib.import_module("comfy_extras.nodes_audio").ConditioningStableAudio
    return audio.execute(prompt, prompt, 0.0, seconds).args[0]


def test_stock_samplers_take_the_duration_that_rides_on_the_latent(bridge, stock, patcher, prompt):
    latent = bridge.coding.empty_latent([1.0], 1)
    told = stock.ksampler(patcher, with_seconds(prompt, 1.0), latent)["samples"]
    assert torch.equal(stock.ksampler(patcher, prompt, latent)["samples"], told)
    other = stock.ksampler(patcher, with_seconds(prompt, 2.0), latent)["samples"]
    assert rel_l2(other, told) > 1e-3, "what ConditioningStableAudio says comes first"
    whole = {"samples": torch.zeros_like(latent["samples"])}
    assert rel_l2(stock.ksampler(patcher, prompt, whole)["samples"], told) > 1e-3


def test_where_no_duration_rides_the_samplers_node_says_what_the_model_is_told(
    bridge, stock, patcher, prompt, monkeypatch
):
    progress = importlib.import_module("sa3_pack.nodes.bridge.host.progress")
    shown: list[tuple[str, str]] = []
    server = SimpleNamespace(send_progress_text=lambda text, node: shown.append((node, text)))
    monkeypatch.setattr(progress, "PromptServer", SimpleNamespace(instance=server))
    monkeypatch.setattr(progress, "get_executing_context", lambda: SimpleNamespace(node_id="16"))
    latent = bridge.coding.empty_latent([1.0], 1)
    stock.ksampler(patcher, prompt, latent)
    assert shown == []
    stock.ksampler(patcher, prompt, {"samples": torch.zeros_like(latent["samples"])})
    ((node, text),) = shown
    assert node == "16"
    assert text.startswith("The model is told 7.06 s, ")
    assert "Add ConditioningStableAudio" in text


def test_each_item_of_a_batch_has_its_own_duration(bridge, stock, patcher, prompt):
    """As alone at the same length, guidance on, so that both prompts run as one batch."""
    lengths = (0.5, 2.0)
    both = {**bridge.coding.empty_latent(lengths, 1), "batch_index": [0, 0]}
    out = stock.ksampler(patcher, prompt, both, cfg=2.0)["samples"]
    for item, seconds in enumerate(lengths):
        alone = {"samples": torch.zeros_like(both["samples"][:1])}
        one = stock.ksampler(patcher, with_seconds(prompt, seconds), alone, cfg=2.0)["samples"]
        valid = int((seconds + 5) * 44100 / 4096)
        assert rel_l2(out[item, :, :valid], one[0, :, :valid]) < 1e-5


def test_a_stock_samplers_nan_names_items_dtype_and_loras(bridge, stock, patcher, prompt):
    patched = patcher.clone()
    key = next(key for key in patcher.model.state_dict() if key.endswith("to_out.weight"))
    weight = patcher.model.state_dict()[key]
    patched.add_patches({key: ("diff", (torch.full_like(weight, torch.nan),))}, 1.5)
    latent = bridge.coding.empty_latent([1.0], 2)
    said = r"NaN or infinite values in items 1, 2 of 2.*float32.*patches of other nodes at 1\.5"
    with pytest.raises(Exception, match=said):
        stock.ksampler(patched, prompt, latent)
    with pytest.raises(Exception, match=r"from step 1 of 3 on.*patches of other nodes at 1\.5"):
        sample(bridge, patched, prompt)
    run = importlib.import_module("sa3_pack.nodes.bridge.sockets.stock_run")
    use = importlib.import_module("sa3_pack.sa3_core.adapters.use").AdapterUse
    patched.set_attachments(run.LORAS, (use("piano.safetensors", 4.0), use("b.safetensors", 1.0)))
    assert "piano.safetensors at 4" in run.describe_patches(patched)
    assert run.describe_patches(patcher) == ""
    assert torch.isfinite(stock.ksampler(patcher, prompt, latent)["samples"]).all()
