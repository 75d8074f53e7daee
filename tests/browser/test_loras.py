"""LoRA Loader counts, while one types, the layers that its filter leaves on."""

from __future__ import annotations

import shutil

import pytest

from tests.helpers.frontend import RENDERERS
from tests.helpers.support import ROOT

NAME = "adapter_lora.safetensors"
TEXT = "id => app.graph.getNodeById(id).sa3LoraStatus.textContent"


@pytest.fixture(scope="module")
def lora(comfy):
    shutil.copy(ROOT / "tests/golden/tiny-s" / NAME, comfy.models("loras"))
    return NAME


def wait_for(ui, node_id, part):
    script = f"([id, part]) => ({TEXT})(id).includes(part)"
    ui.page.wait_for_function(script, arg=[node_id, part], timeout=10_000)
    return ui.page.evaluate(TEXT, node_id)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_count_follows_the_filter(ui, comfy, lora, renderer):
    ui.use_renderer(renderer)
    whole = comfy.client.get(f"/sa3/lora?name={lora}")
    part = comfy.client.get(f"/sa3/lora?name={lora}&filter=layers%5B0-1%5D")
    assert 0 < part["active"] < whole["active"] == whole["layers"]
    node_id = ui.add_node("SA3LoraLoader")
    ui.set_widget(node_id, "lora", lora)
    ui.set_widget(node_id, "layer_filter", "")  # the frontend remembers values by node id
    total = whole["layers"]
    assert wait_for(ui, node_id, f"{total} of {total} layers").startswith("lora, rank ")
    ui.set_widget(node_id, "layer_filter", "layers[0-1]")
    wait_for(ui, node_id, f"{part['active']} of {total} layers")
    ui.set_widget(node_id, "layer_filter", "layers[3-1]")
    wait_for(ui, node_id, "reversed")


def test_the_route_reads_only_loras(comfy, lora):
    for name in ("../../../etc/passwd", "..%2Fx.safetensors", "nothing.safetensors"):
        assert "error" in comfy.client.get(f"/sa3/lora?name={name}")
