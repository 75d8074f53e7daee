"""LoRA nodes in a real server: loader, stack, saving, stock samplers, errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.helpers.client import PromptRejectedError, node
from tests.helpers.graphs import base_graph, failure, read, results, sampler, saved
from tests.helpers.support import ROOT, rel_l2

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny-s"


@pytest.fixture(scope="module")
def lora_files(comfy):
    """Golden adapters in models/loras."""
    names = ["lora", "dora-rows", "bora-xs"]
    for name in names:
        shutil.copy(GOLDEN / f"adapter_{name}.safetensors", comfy.models("loras"))
    return [f"adapter_{name}.safetensors" for name in names]


def loader(name, model="m", **inputs):
    return node("SA3LoraLoader", model=[model, 0], lora=name, **inputs)


def test_loaders_chain_and_equal_a_stack(comfy, lora_files):
    first, second, _ = lora_files
    graph = base_graph(seconds=1.5)
    graph["a"] = loader(first, strength=0.8)
    graph["b"] = loader(second, "a", strength=0.5, strength_conditioner=0.0)
    graph["s"] = node(
        "SA3LoraStack",
        model=["m", 0],
        lora_1=first,
        strength_1=0.8,
        lora_3=second,
        strength_3=0.5,
        conditioner_3=0.0,
    )
    graph["o"] = sampler(steps=3)
    graph["x"] = sampler(steps=3, model=["b", 0])
    graph["y"] = sampler(steps=3, model=["s", 0])
    graph |= saved("o", "o") | saved("x", "x") | saved("y", "y")
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    plain, chained, stacked = (read(comfy.client, run, f"{n}s") for n in "oxy")
    assert torch.equal(chained, stacked)
    assert rel_l2(chained, plain) > 1e-3
    note = run.outputs["a"]["text"]
    assert note[0].startswith("adapter_lora.safetensors: lora, rank ")
    assert "layers active" in note[1]


def test_a_saved_model_equals_the_patched_one(comfy, lora_files):
    graph = base_graph(seconds=1.5)
    graph["a"] = loader(lora_files[1])
    graph["b"] = loader(lora_files[2], "a", strength=0.5)
    graph["w"] = node(
        "SA3SaveModel", model=["b", 0], filename_prefix="merged", with_text_encoder=True
    )
    graph["o"] = sampler(steps=3, model=["b", 0])
    (patched,) = results(comfy.client, graph | saved("o", "o"), "os")
    folder = comfy.base / "output" / "merged_00001"
    assert (folder / "model_config.json").is_file()
    shutil.move(folder, comfy.models("stable_audio_3") / "merged")
    again = base_graph("merged", seconds=1.5)
    again["o"] = sampler(steps=3)
    (merged,) = results(comfy.client, again | saved("o", "o"), "os")
    assert rel_l2(merged, patched) < 1e-5


def test_an_interval_acts_alike_in_ours_and_in_stock_samplers(comfy, lora_files):
    graph = base_graph(seconds=1.5)
    graph["a"] = loader(lora_files[0], interval_start=0.4, interval_end=0.99)
    graph["c"] = node(
        "ConditioningStableAudio",
        positive=["p", 0],
        negative=["n", 0],
        seconds_start=0.0,
        seconds_total=1.5,
    )
    graph["k"] = node(
        "KSampler",
        model=["a", 0],
        positive=["c", 0],
        negative=["c", 1],
        latent_image=["l", 0],
        seed=7,
        steps=8,
        cfg=1.0,
        sampler_name="euler",
        scheduler="simple",
        denoise=1.0,
    )
    graph["x"] = sampler(model=["a", 0], sampler="euler", steps=8)
    graph["o"] = sampler(sampler="euler", steps=8)
    graph |= saved("k", "k") | saved("x", "x") | saved("o", "o")
    stock, ours, plain = results(comfy.client, graph, "ks", "xs", "os")
    assert rel_l2(stock, ours) < 1e-4
    assert rel_l2(ours, plain) > 1e-3


def test_the_shipped_graph_with_two_loras(comfy, lora_files):
    graph = json.loads((ROOT / "example_workflows/api/two_loras.json").read_text("utf-8"))
    graph["1"]["inputs"]["model"] = "tiny-s"
    graph["2"]["inputs"]["lora"], graph["3"]["inputs"]["lora"] = lora_files[:2]
    graph["5"]["inputs"]["seconds"] = 1.5
    graph["8"]["inputs"]["format"] = "wav-32f"
    (audio,) = results(comfy.client, graph, "8")
    assert audio.shape == (2, int(1.5 * 44100))
    assert torch.isfinite(audio).all()


def test_no_lora_leaves_the_model_as_it_is(comfy, lora_files):
    """As a stranger has it, who has no LoRA: the shipped graph names none."""
    graph = base_graph(seconds=1.0)
    graph["a"] = loader("none")
    graph["x"] = sampler(model=["a", 0])
    graph["o"] = sampler()
    graph["b"] = loader(lora_files[0])
    graph["y"] = sampler(model=["b", 0])
    none, plain, one = results(
        comfy.client, graph | saved("x", "x") | saved("o", "o") | saved("y", "y"), "xs", "os", "ys"
    )
    assert torch.equal(none, plain)
    assert not torch.equal(one, plain)
    shipped = json.loads((ROOT / "example_workflows/api/two_loras.json").read_text("utf-8"))
    assert [shipped[key]["inputs"]["lora"] for key in ("2", "3")] == ["none", "none"]


def test_bad_loras(comfy, lora_files):
    graph = base_graph(seconds=1.0)
    graph["a"] = loader("../../etc/passwd")
    graph["o"] = sampler(model=["a", 0])
    with pytest.raises(PromptRejectedError, match="passwd"):
        comfy.client.run(graph | saved("o", "o"))
    medium = GOLDEN.parent / "tiny-m" / "adapter_dora-rows.safetensors"
    shutil.copy(medium, comfy.models("loras") / "medium.safetensors")
    graph["a"] = loader("medium.safetensors")
    message = failure(comfy.client, graph | saved("o", "o"))
    assert "does not fit this model" in message
    assert "medium" in message
