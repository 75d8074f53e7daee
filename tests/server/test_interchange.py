"""Our sockets in stock nodes and stock sockets in ours, in a real ComfyUI server."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import checkpoint_tensors, make_checkpoint
from tests.helpers.client import Graph, node
from tests.helpers.graphs import (
    FRAMES_WITH_HEADROOM,
    SECONDS,
    base_graph,
    failure,
    read,
    results,
    sampler,
    save_node,
    saved,
)
from tests.helpers.support import rel_l2
from tests.helpers.text_encoder_files import spiece_tensor, train_spiece


def conditioned(graph: Graph, seconds: float = SECONDS) -> Graph:
    """Add ConditioningStableAudio `c`: stock samplers take the duration from it."""
    graph["c"] = node(
        "ConditioningStableAudio",
        positive=["p", 0],
        negative=["n", 0],
        seconds_start=0.0,
        seconds_total=seconds,
    )
    return graph


def ksampler(**changes: Any) -> dict[str, Any]:
    inputs = {
        "model": ["m", 0],
        "positive": ["c", 0],
        "negative": ["c", 1],
        "latent_image": ["l", 0],
        "seed": 7,
        "steps": 8,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "denoise": 1.0,
        **changes,
    }
    return node("KSampler", **inputs)


def custom(graph: Graph, guider: dict[str, Any], **scheduler: Any) -> Graph:
    """SamplerCustomAdvanced `k` with our schedule and solver."""
    solver = scheduler.pop("sampler", "pingpong")
    return {
        **graph,
        "noise": node("RandomNoise", noise_seed=7),
        "g": guider,
        "sig": node("SA3Scheduler", model=["m", 0], latent=["l", 0], **scheduler),
        "sel": node("SA3SamplerSelect", sampler=solver),
        "k": node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["g", 0],
            sampler=["sel", 0],
            sigmas=["sig", 0],
            latent_image=["l", 0],
        ),
    }


@pytest.mark.smoke
@pytest.mark.parametrize("model", ["tiny-s", "tiny-m"])
def test_ksampler_euler_equals_our_sampler(comfy, model):
    graph = conditioned(base_graph(model))
    graph["k"] = ksampler()
    graph["o"] = sampler(sampler="euler", steps=8, cfg=1.0)
    graph |= saved("k", "k") | saved("o", "o")
    stock, ours = results(comfy.client, graph, "ks", "os")
    assert ours.shape == (2, int(SECONDS * 44100))
    assert rel_l2(stock, ours) < 1e-4


def test_ksampler_guidance_equals_our_plain_guidance(comfy):
    graph = conditioned(base_graph())
    graph["k"] = ksampler(cfg=5.0, steps=10)
    graph["o"] = sampler(negative=["n", 0], sampler="euler", steps=10, cfg=5.0, apg=0.0)
    graph |= saved("k", "k") | saved("o", "o")
    stock, ours = results(comfy.client, graph, "ks", "os")
    assert rel_l2(stock, ours) < 1e-4


def test_ksampler_lcm_runs_the_published_schedule(comfy):
    graph = conditioned(base_graph())
    graph["k"] = ksampler(sampler_name="lcm")
    (audio,) = results(comfy.client, graph | saved("k", "k"), "ks")
    assert audio.shape == (2, int(SECONDS * 44100))
    assert torch.isfinite(audio).all()
    assert audio.std() > 1e-3


# rk4 asks at t = 1e-5, where a velocity out of (x - denoised) / t keeps few digits.
@pytest.mark.parametrize(
    ("solver", "bound"),
    [
        ("pingpong", 1e-4),
        ("dpmpp", 1e-4),
        ("dpmpp-2m", 1e-4),
        ("dpmpp-3m-sde", 1e-4),
        ("heun", 1e-4),
        ("rk4", 5e-3),
        ("euler", 1e-4),
    ],
)
def test_sampler_custom_advanced_equals_our_sampler(comfy, solver, bound):
    graph = conditioned(base_graph())
    guider = node("BasicGuider", model=["m", 0], conditioning=["c", 0])
    graph = custom(graph, guider, sampler=solver, steps=6)
    graph["o"] = sampler(sampler=solver, steps=6, cfg=1.0)
    graph |= saved("k", "k") | saved("o", "o")
    stock, ours = results(comfy.client, graph, "ks", "os")
    assert rel_l2(stock, ours) < bound


def test_cfg_guider_with_our_schedule(comfy):
    graph = conditioned(base_graph())
    guider = node("CFGGuider", model=["m", 0], positive=["c", 0], negative=["c", 1], cfg=3.0)
    graph = custom(graph, guider, sampler="euler", steps=6, denoise=0.8, shift="full")
    (audio,) = results(comfy.client, graph | saved("k", "k"), "ks")
    assert torch.isfinite(audio).all()


@pytest.mark.parametrize(
    ("rate", "channels", "seconds"), [(44100, 2, 1.0), (48000, 1, 0.7), (22050, 2, 0.3333)]
)
def test_stock_vae_nodes(comfy, rate, channels, seconds):
    graph = base_graph()
    graph["a"] = node("EmptyAudio", duration=seconds, sample_rate=rate, channels=channels)
    graph["e"] = node("VAEEncodeAudio", audio=["a", 0], vae=["m", 2])
    graph["d"] = node("VAEDecodeAudio", samples=["e", 0], vae=["m", 2])
    graph["ds"] = save_node("d", "vae")
    (audio,) = results(comfy.client, graph, "ds")
    resampled = -(-round(seconds * rate) * 44100 // rate)
    assert audio.shape == (2, -(-resampled // 4096) * 4096)


def test_stock_tiled_decode_equals_ours(comfy):
    graph = base_graph()
    graph["o"] = sampler(steps=2)
    graph["d"] = node("VAEDecodeAudio", samples=["o", 0], vae=["m", 2])
    graph["t"] = node(
        "VAEDecodeAudioTiled", samples=["o", 0], vae=["m", 2], tile_size=32, overlap=8
    )
    graph |= {"ds": save_node("d", "d"), "ts": save_node("t", "t")}
    whole, tiled = results(comfy.client, graph, "ds", "ts")
    assert whole.shape[-1] == FRAMES_WITH_HEADROOM * 4096
    assert rel_l2(tiled, whole) < 5e-5


def test_stock_text_encode_equals_ours(comfy):
    graph = base_graph()
    graph["q"] = node("CLIPTextEncode", clip=["m", 1], text="warm analog synth pad")
    graph["a"] = sampler(steps=2)
    graph["b"] = sampler(steps=2, positive=["q", 0])
    graph |= saved("a", "a") | saved("b", "b")
    ours, stock = results(comfy.client, graph, "as", "bs")
    assert torch.equal(ours, stock)


def test_load_and_preview_audio_around_ours(comfy):
    graph = base_graph()
    graph["o"] = sampler(steps=2)
    graph["d"] = node("SA3SAMEDecode", latent=["o", 0], vae=["m", 2])
    graph["s"] = node("SA3SaveAudio", audio=["d", 0], filename_prefix="around", format="flac-24")
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    name = run.outputs["s"]["audio"][0]["filename"]
    shutil.copy(comfy.base / "output" / name, comfy.base / "input" / name)
    again: Graph = {
        "m": graph["m"],
        "a": node("LoadAudio", audio=name),
        "e": node("SA3SAMEEncode", audio=["a", 0], vae=["m", 2]),
        "d": node("SA3SAMEDecode", latent=["e", 0], vae=["m", 2]),
        "v": node("PreviewAudio", audio=["d", 0]),
        "ds": save_node("d", "again"),
    }
    (audio,) = results(comfy.client, again, "ds")
    assert audio.shape == (2, int(SECONDS * 44100))


def test_conditioning_nodes(comfy):
    graph = base_graph()
    graph["z"] = node("ConditioningZeroOut", conditioning=["n", 0])
    graph["j"] = node("ConditioningConcat", conditioning_to=["p", 0], conditioning_from=["n", 0])
    graph["o"] = sampler(positive=["j", 0], negative=["z", 0], cfg=2.0, steps=2)
    (audio,) = results(comfy.client, graph | saved("o", "o"), "os")
    assert torch.isfinite(audio).all()
    graph["b"] = node("ConditioningCombine", conditioning_1=["p", 0], conditioning_2=["n", 0])
    graph["o"] = sampler(positive=["b", 0], steps=2)
    message = failure(comfy.client, graph | saved("o", "o"))
    assert "holds 2 conditionings" in message
    assert "KSampler" in message


def test_latent_batch_nodes(comfy):
    graph = base_graph(durations="2, 3")
    graph["r"] = node("RepeatLatentBatch", samples=["l", 0], amount=2)
    graph["o"] = sampler(latent=["r", 0], steps=2)
    graph["f"] = node("LatentFromBatch", samples=["r", 0], batch_index=3, length=1)
    graph["x"] = sampler(latent=["f", 0], steps=2)
    graph |= saved("o", "o") | saved("x", "x")
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    assert len(run.outputs["os"]["audio"]) == 4
    lengths = [read(comfy.client, run, "os", i).shape[-1] for i in range(4)]
    assert lengths == [2 * 44100, 3 * 44100] * 2
    alone, of_batch = read(comfy.client, run, "xs"), read(comfy.client, run, "os", 3)
    assert alone.shape == of_batch.shape
    assert rel_l2(alone, of_batch) < 1e-4


def test_torch_compile(comfy):
    graph = base_graph(seconds=1.0)
    graph["tc"] = node("TorchCompileModel", model=["m", 0], backend="inductor")
    graph["o"] = sampler(steps=2)
    graph["x"] = sampler(model=["tc", 0], steps=2)
    graph |= saved("o", "o") | saved("x", "x")
    plain, compiled = results(comfy.client, graph, "os", "xs", timeout=300)
    assert rel_l2(compiled, plain) < 1e-4


def test_stock_lora_loader(comfy, tiny_s):
    tensors = load_file(tiny_s / "model.safetensors")
    key = "transformer.layers.0.self_attn.to_out"
    rows, columns = tensors[f"model.model.{key}.weight"].shape
    generator = torch.Generator().manual_seed(0)
    lora = {
        f"diffusion_model.{key}.lora_A.weight": torch.randn(4, columns, generator=generator),
        f"diffusion_model.{key}.lora_B.weight": torch.randn(rows, 4, generator=generator),
    }
    save_file(lora, comfy.base / "models" / "loras" / "plain.safetensors")
    graph = base_graph()
    graph["lo"] = node(
        "LoraLoaderModelOnly", model=["m", 0], lora_name="plain.safetensors", strength_model=1.0
    )
    graph["a"] = sampler(steps=2)
    graph["b"] = sampler(model=["lo", 0], steps=2)
    graph |= saved("a", "a") | saved("b", "b")
    plain, patched = results(comfy.client, graph, "as", "bs")
    assert rel_l2(patched, plain) > 1e-3


def test_model_sampling_sd3_replaces_the_schedule(comfy):
    graph = conditioned(base_graph())
    graph["ms"] = node("ModelSamplingSD3", model=["m", 0], shift=3.0)
    graph["a"] = ksampler()
    graph["b"] = ksampler(model=["ms", 0])
    graph |= saved("a", "a") | saved("b", "b")
    ours, shifted = results(comfy.client, graph, "as", "bs")
    assert rel_l2(shifted, ours) > 1e-3


def test_checkpoint_save_writes_what_our_loader_reads(comfy):
    graph = base_graph()
    graph["o"] = sampler(steps=2)
    graph["w"] = node(
        "CheckpointSave", model=["m", 0], clip=["m", 1], vae=["m", 2], filename_prefix="resaved"
    )
    (before,) = results(comfy.client, graph | saved("o", "o"), "os")
    (written,) = (comfy.base / "output").glob("resaved*.safetensors")
    shutil.move(written, comfy.base / "models" / "checkpoints" / "resaved.safetensors")
    again = base_graph("checkpoints/resaved.safetensors")
    again["m"]["inputs"]["text_encoder"] = "tiny-s/t5gemma-b-b-ul2"
    again["o"] = sampler(steps=2)
    (after,) = results(comfy.client, again | saved("o", "o"), "os")
    assert rel_l2(after, before) < 1e-5


def test_the_stock_empty_latent_is_as_long_as_it_says(comfy):
    graph = base_graph(seconds=2.0)
    graph["o"] = sampler(steps=2)
    (ours,) = results(comfy.client, graph | saved("o", "o"), "os")
    graph["l"] = node("EmptyLatentAudio", seconds=2.0, batch_size=1)
    (stock,) = results(comfy.client, graph | saved("o", "o"), "os")
    assert torch.equal(stock, ours)


def test_another_models_latent_and_model_are_refused(comfy):
    graph = base_graph()
    graph["l"] = node("EmptyAceStep1.5LatentAudio", seconds=2.0, batch_size=1)
    graph["o"] = sampler(steps=2)
    message = failure(comfy.client, graph | saved("o", "o"))
    assert "ACE-Step 1.5" in message
    assert "Empty Latent by Duration" in message


@pytest.fixture(scope="module")
def t5gemma_file(comfy):
    """A random T5Gemma in the real shape (the stock loader knows no other), bfloat16."""
    config = make_checkpoint.text_encoder_config(tiny=False)["encoder"]
    specs = checkpoint_tensors.under("model.encoder.", checkpoint_tensors.text_encoder_spec(config))
    table = next(spec for spec in specs if spec.name.endswith("embed_tokens.weight"))
    specs.remove(table)
    tensors = checkpoint_tensors.materialise(specs, 0, torch.bfloat16)
    rows = torch.zeros(table.shape, dtype=torch.bfloat16)
    rows[:512] = 0.05 * torch.randn(512, table.shape[1], generator=torch.Generator().manual_seed(0))
    tensors[table.name] = rows  # only the first ids are ever used
    tensors["spiece_model"] = spiece_tensor(train_spiece())
    name = "t5gemma_b_b_ul2.safetensors"
    path = comfy.models("text_encoders") / name
    save_file(tensors, path)
    yield name
    path.unlink()


def test_stock_clip_in_our_text_node(comfy, t5gemma_file):
    graph = base_graph(seconds=1.0)
    graph["m"]["inputs"]["text_encoder"] = f"text_encoders/{t5gemma_file}"
    graph["cl"] = node("CLIPLoader", clip_name=t5gemma_file, type="stable_audio", device="cpu")
    text = "warm analog synth pad (slow:1.5) attack\n\nfootsteps on gravel"
    graph["p"]["inputs"] |= {"text": text, "one_prompt_per_line": True}
    graph["q"] = node("SA3TextEncode", clip=["cl", 0], text=text, one_prompt_per_line=True)
    graph["a"] = sampler(steps=2)
    graph["b"] = sampler(steps=2, positive=["q", 0])
    run = comfy.client.run(graph | saved("a", "a") | saved("b", "b"), timeout=300)
    assert run.status == "success", run.error
    assert run.outputs["p"]["text"] == run.outputs["q"]["text"]
    for item in range(2):
        ours, stock = read(comfy.client, run, "as", item), read(comfy.client, run, "bs", item)
        # The stock encoder keeps its weights in float16 on a CPU; a wrong token would give ~1.
        assert rel_l2(stock, ours) < 3e-2
