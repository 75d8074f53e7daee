"""-1 as a seed in the nodes: drawn, told, and written into the graph that is saved."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch

from tests.helpers.editing_support import music


def hidden_of(node_id="7", values=(-1, "fixed", 0)):
    inner = {"id": 5, "type": "X", "widgets_values": list(values)}
    workflow = {
        "nodes": [
            {"id": 7, "type": "SA3Sampler", "widgets_values": list(values)},
            {"id": 12, "type": "blue", "widgets_values": [-1]},
        ],
        "definitions": {"subgraphs": [{"id": "blue", "nodes": [inner]}]},
    }
    prompt = {node_id: {"class_type": "SA3Sampler", "inputs": {"seed": -1, "steps": 1}}}
    return SimpleNamespace(unique_id=node_id, prompt=prompt, extra_pnginfo={"workflow": workflow})


def prepared(node, hidden):
    return type("Prepared", (node,), {"hidden": hidden})


def drawn_of(out):
    return int(re.search(r"seed (\d+) was drawn", "\n".join(out.ui["text"]))[1])


def test_the_drawn_seed_stands_in_text_prompt_and_workflow(small):
    node, hidden = small.module("nodes.sampling").SA3Sampler, hidden_of()
    latent = small.module("nodes.latent").SA3EmptyLatent.execute(1.0).args[0]
    common = {"positive": small.prompt("x"), "latent": latent, "steps": 1}
    out = prepared(node, hidden).execute(model=small.model, seed=-1, **common)
    seed = drawn_of(out)
    assert hidden.prompt["7"]["inputs"] == {"seed": seed, "steps": 1}
    first, second = hidden.extra_pnginfo["workflow"]["nodes"]
    assert first["widgets_values"] == [seed, "fixed", 0]
    assert second["widgets_values"] == [-1]
    again = node.execute(model=small.model, seed=seed, **common)
    assert torch.equal(out.args[0]["samples"], again.args[0]["samples"])
    other = prepared(node, hidden_of()).execute(model=small.model, seed=-1, **common)
    assert drawn_of(other) != seed
    assert not torch.equal(out.args[0]["samples"], other.args[0]["samples"])


def test_a_node_in_a_subgraph(small):
    settled = small.module("nodes.bridge.work.seeds").settled_seed
    hidden = hidden_of("12:5")
    seed, _ = settled(-1, hidden)
    workflow = hidden.extra_pnginfo["workflow"]
    assert workflow["definitions"]["subgraphs"][0]["nodes"][0]["widgets_values"][0] == seed
    assert workflow["nodes"][0]["widgets_values"][0] == -1
    assert hidden.prompt["12:5"]["inputs"]["seed"] == seed


def test_extend_audio_draws_too(small):
    node, hidden = small.module("nodes.extending").SA3ExtendAudio, hidden_of()
    audio = music(1.0)
    out = prepared(node, hidden).execute(
        audio, small.model, small.vae, small.prompt("x"), 0.5, -1, steps=1, overlap_seconds=0.1
    )
    assert hidden.prompt["7"]["inputs"]["seed"] == drawn_of(out)


@pytest.mark.parametrize("name", ["sampling.SA3Sampler", "extending.SA3ExtendAudio"])
def test_such_a_run_is_never_known_again(small, name):
    module, node = name.split(".")
    of = getattr(small.module(f"nodes.{module}"), node).fingerprint_inputs
    assert of(seed=-1, steps=1) != of(seed=-1, steps=1)
    assert of(seed=5, steps=1) == of(seed=6) == of(seed=None)
    if node == "SA3Sampler":
        assert of(seed=-1, seeds="7") == of(seed=5)


def test_other_seeds_change_nothing(small):
    settled = small.module("nodes.bridge.work.seeds").settled_seed
    hidden = hidden_of()
    assert settled(9, hidden) == (9, [])
    assert hidden.prompt["7"]["inputs"]["seed"] == -1
