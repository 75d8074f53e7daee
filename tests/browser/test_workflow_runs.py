"""Every example workflow run from the page sounds like its API twin posted to the server."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers.client import Run
from tests.helpers.frontend import RENDERERS
from tests.helpers.graphs import read
from tests.helpers.overlaps import lasting_overlaps
from tests.tools.example_inputs import (
    LORA_NAME,
    api_workflow,
    page_form,
    workflow_names,
    write_example_inputs,
)

# What a small run needs, by node type; everything else stays as shipped.
SMALL: dict[str, dict[str, Any]] = {
    "SA3LoadModel": {"model": "tiny-m"},
    "SA3LoraLoader": {"lora": LORA_NAME},
    "SA3EmptyLatent": {"seconds": 1.5},
    "SA3Sampler": {"steps": 2},
    "SA3ExtendAudio": {"steps": 2},
    "SA3SaveAudio": {"format": "wav-32f"},
}

# Those that learn keep the demo model and the clips that they come with.
LEARNING = ("train_lora", "compare_lora")
SHORT = {**SMALL, "SA3TrainLora": {"steps": 2}, "SA3LoadModel": {}, "SA3LoraLoader": {}}
LONG = ("extend_long",)  # window after window; the server tests extend too


@pytest.fixture(scope="module")
def opened(frontend, comfy):
    """The frontend, knowing the files that a user of the examples brings."""
    write_example_inputs(comfy)
    frontend.open()


def save_nodes(graph: dict[str, Any]) -> list[str]:
    return [key for key, node in graph.items() if node["class_type"] == "SA3SaveAudio"]


def assert_apart(ui, cards: int) -> None:
    """Nodes that show what they made lie on no other, in both renderers."""
    for renderer in RENDERERS:
        ui.use_renderer(renderer)
        ui.fit()
        shown = """count => document.querySelectorAll('.sa3-card').length === count
            || app.graph.nodes.some(n => n.type === 'SA3SaveAudio' && n.flags.collapsed)"""
        ui.page.wait_for_function(shown, arg=cards, timeout=60_000)
        ui.settle(500)
        said = "() => [...document.querySelectorAll('.sa3-message')].map(e => e.innerText)"
        assert lasting_overlaps(ui, renderer) == [], (renderer, ui.page.evaluate(said))


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.soak] if name in LONG else [])
        for name in workflow_names()
    ],
)
def test_the_page_and_the_api_give_the_same_sound(ui, comfy, name):
    graph = api_workflow(name)
    ui.load(page_form(name))
    changes = SHORT if name in LEARNING else SMALL
    for key, node in graph.items():
        for widget, value in changes.get(node["class_type"], {}).items():
            node["inputs"][widget] = value
            ui.set_widget(int(key), widget, value)
    history = ui.queue()
    assert history["status"]["status_str"] == "success", history["status"]
    assert_apart(ui, len(history["outputs"][save_nodes(graph)[0]]["audio"]))
    # Nothing may come out of the cache: the API run is to make every sample itself.
    comfy.client.forget_results()
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    from_page = Run(run.prompt_id, history=history)
    compared = 0
    for key in save_nodes(graph):
        files = run.outputs[key]["audio"]
        assert len(history["outputs"][key]["audio"]) == len(files)
        for index in range(len(files)):
            ours = read(comfy.client, run, key, index)
            assert ours.shape[-1] > 0
            assert torch.equal(read(comfy.client, from_page, key, index), ours)
            compared += 1
    assert compared
