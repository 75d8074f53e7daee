"""Our nets under ComfyUI's memory management: partial load, clones, patches, unloading."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

SECONDS = 2.0


def sample(bridge, patcher, prompt, **settings):
    latent = bridge.coding.empty_latent([SECONDS], 1)
    out, _ = bridge.sampling.sample(
        patcher,
        latent,
        bridge.core_settings.SampleSettings(steps=3, **settings),
        prompt,
        None,
        bridge.core_noise.Seeds(1),
    )
    return out["samples"]


def resident_bytes(mm, patcher):
    """Weights that the host has placed on the device, counted module by module."""
    modules = patcher.model.modules()
    return sum(mm.module_size(m) for m in modules if getattr(m, "comfy_patched_weights", False))


def run_partially(mm, bridge, patcher, prompt, budget, **settings):
    """Sample with only `budget` bytes of weights resident.

    Returns:
        The latent, and the bytes that were resident, the same before and after sampling.
    """
    original = mm.load_models_gpu
    seen = []

    def partial(models, *_args, **_kwargs):
        for model in models:
            model.unpatch_model(model.offload_device)
            model.partially_load(model.load_device, budget)
            seen.append(resident_bytes(mm, model))

    mm.load_models_gpu = partial
    try:
        out = sample(bridge, patcher, prompt, **settings)
        assert [resident_bytes(mm, patcher)] == seen
        return out, seen[0]
    finally:
        mm.load_models_gpu = original
        patcher.detach()


@pytest.mark.parametrize("budget", [1, 2_000_000, 6_000_000])
def test_partial_load_stays_within_its_budget_with_identical_output(
    mm, bridge, patcher, prompt, budget
):
    whole = sample(bridge, patcher, prompt)
    mm.unload_all_models()
    assert budget < patcher.model_size()
    part, resident = run_partially(mm, bridge, patcher, prompt, budget)
    assert resident <= budget
    assert resident > 0.5 * budget or budget == 1
    assert torch.equal(part, whole)


def test_memory_is_asked_for_frames_that_are_computed(bridge, patcher, prompt):
    net = bridge.model.core_model(patcher, patcher.model)
    text = bridge.values.text_conditioning(prompt, "positive")

    def memory(frames, seconds=None, keep=None, items=1, guided=False):
        start = bridge.core_start.StartLatent(torch.zeros(items, 256, frames), seconds, keep)
        seeds = bridge.core_noise.Seeds(1)
        return bridge.core_plan.SamplingPlan.of(net, start, text, None, seeds).memory(guided)

    piece = memory(86, (2.0,))  # 22 frames and 64 of headroom
    assert memory(1000, (2.0,)) == piece
    assert memory(86) == piece < memory(1000)
    assert memory(86, (2.0, 1.0), items=2) == memory(86, (2.0,), guided=True) > piece
    kept = patcher.model.sampling_memory(1, 86, 1) - piece
    assert kept > 0
    nothing, all_kept = torch.zeros(1, 1, 86), torch.ones(1, 1, 86)
    assert memory(86, (2.0,), nothing) == piece
    assert memory(86, (2.0,), all_kept) == piece + kept
    # The stock way: every frame of the batch, a mask unless the conditions say otherwise.
    assert patcher.model.memory_required([1, 256, 86]) == piece + kept
    assert patcher.model.memory_required([1, 256, 86], {"c_crossattn": [[1, 5, 769]]}) == piece


def test_every_large_layer_can_be_streamed(patcher):
    streamed = [
        name
        for name, module in patcher.model.named_modules()
        if list(module.parameters(recurse=False)) and hasattr(module, "comfy_cast_weights")
    ]
    parameters = dict(patcher.model.named_parameters())
    inside = sum(
        p.numel() for name, p in parameters.items() if name.rsplit(".", 1)[0] in set(streamed)
    )
    assert inside > 0.9 * sum(p.numel() for p in parameters.values())


def test_clones_share_weights_and_do_not_disturb_each_other(bridge, patcher, prompt):
    plain = sample(bridge, patcher, prompt)
    clone = patcher.clone()
    key = "diffusion_model.transformer.layers.0.self_attn.to_out.weight"
    before = patcher.model.state_dict()[key].clone()
    clone.add_patches({key: ("diff", (torch.full_like(before, 0.05),))})
    patched = sample(bridge, clone, prompt)
    again = sample(bridge, patcher, prompt)
    assert clone.model is patcher.model
    assert not torch.equal(patched, plain)
    assert torch.equal(again, plain)
    assert torch.equal(patcher.model.state_dict()[key], before)


def test_patches_act_alike_under_partial_load(mm, bridge, patcher, prompt):
    clone = patcher.clone()
    keys = (
        "diffusion_model.transformer.layers.1.ff.ff.2.weight",
        "conditioner.conditioners.seconds_total.embedder.embedding.1.weight",
    )
    for key in keys:
        weight = patcher.model.state_dict()[key]
        clone.add_patches({key: ("diff", (torch.full_like(weight, 0.02),))})
    whole = sample(bridge, clone, prompt)
    mm.unload_all_models()
    part, _ = run_partially(mm, bridge, clone, prompt, 100_000)
    assert torch.equal(part, whole)


def test_nothing_is_left_after_a_model_is_dropped(mm, bridge, tiny_s, prompt):
    patcher = bridge.model.load_patcher(str(tiny_s), "tiny-s", "fp32", "auto")
    sample(bridge, patcher, prompt)
    net = weakref.ref(patcher.model)
    mm.unload_all_models()
    del patcher
    mm.cleanup_models_gc()
    gc.collect()
    assert net() is None


def test_an_interrupt_stops_between_steps_and_leaves_no_trace(mm, bridge, patcher, prompt):
    plain = sample(bridge, patcher, prompt)
    mm.interrupt_current_processing(True)
    with pytest.raises(mm.InterruptProcessingException):
        sample(bridge, patcher, prompt)
    assert torch.equal(sample(bridge, patcher, prompt), plain)


def test_the_host_can_make_a_classic_patcher_again(bridge, patcher, prompt):
    factory, arguments = patcher.cached_patcher_init
    again = factory(*arguments, disable_dynamic=True)
    assert torch.equal(sample(bridge, again, prompt), sample(bridge, patcher, prompt))


def test_autoencoder_under_partial_load(mm, bridge, tiny_m):
    vae = bridge.vae.load_vae(str(tiny_m), "fp32")
    latent = torch.randn(1, 256, 20, generator=torch.Generator().manual_seed(0))
    whole = vae.decode_latent(latent)
    original, budget = mm.load_models_gpu, 3_000_000
    assert budget < vae.patcher.model_size()

    def partial(models, *_args, **_kwargs):
        for model in models:
            model.unpatch_model(model.offload_device)
            model.partially_load(model.load_device, budget)

    mm.load_models_gpu = partial
    try:
        part = vae.decode_latent(latent)
        assert 0 < resident_bytes(mm, vae.patcher) <= budget
    finally:
        mm.load_models_gpu = original
    assert torch.equal(part, whole)


def test_decoding_gives_one_batch_with_silence_after_each_item(bridge, tiny_m):
    vae = bridge.vae.load_vae(str(tiny_m), "fp32")
    latent = torch.randn(2, 256, 40, generator=torch.Generator().manual_seed(0))
    whole = vae.decode_latent(latent)
    assert whole.shape == (2, 2, 40 * 4096)
    cut = vae.decode_latent(latent, seconds=(1.0, 0.5))
    assert cut.shape == whole.shape
    for item, samples in enumerate((44100, 22050)):
        assert torch.allclose(cut[item, :, :samples], whole[item, :, :samples], atol=1e-5)
        assert not cut[item, :, 20 * 4096 :].any()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_weights_compute_in_float32_on_a_cpu(bridge, tiny_s, prompt, precision):
    full = bridge.model.load_patcher(str(tiny_s), "tiny-s", "fp32", "auto")
    half = bridge.model.load_patcher(str(tiny_s), "tiny-s", precision, "auto")
    assert half.model.get_dtype() == bridge.dtypes.DTYPES[precision]
    assert half.model_size() < 0.65 * full.model_size()
    a, b = sample(bridge, full, prompt), sample(bridge, half, prompt)
    assert 0 < float((a - b).norm() / a.norm()) < 0.2
