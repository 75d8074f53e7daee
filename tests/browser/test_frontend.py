"""The pack in the real frontend, and the harness that the other browser tests stand on."""

from __future__ import annotations

import pytest

from tests.helpers.frontend import RENDERERS


@pytest.mark.smoke
def test_the_frontend_loads_with_all_our_nodes(ui, comfy):
    ui.open()
    ours = {name for name in comfy.client.object_info() if name.startswith("SA3")}
    assert ours, "the pack is not loaded"
    assert ours <= ui.node_types()
    ui.screenshot("frontend")


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_graph_runs_from_the_page(ui, comfy, renderer):
    ui.use_renderer(renderer)
    source = ui.add_node("EmptyAudio")
    target = ui.add_node("SaveAudio", x=500)
    ui.set_widget(source, "duration", 0.5)
    ui.page.evaluate(
        "([from, to]) => app.graph.getNodeById(from).connect(0, app.graph.getNodeById(to), 0)",
        [source, target],
    )
    history = ui.queue()
    (saved,) = history["outputs"][str(target)]["audio"]
    assert comfy.client.view(saved).startswith(b"fLaC")
    on_page = ui.page.evaluate("() => document.querySelectorAll('[data-node-id]').length")
    assert on_page == (2 if renderer == "vue" else 0)
    ui.screenshot(f"stock-graph-{renderer}")


def test_a_saved_file_brings_its_graph_back(ui, comfy):
    source = ui.add_node("EmptyAudio")
    target = ui.add_node("SaveAudio", x=500)
    ui.set_widget(source, "duration", 0.25)
    script = "([a, b]) => app.graph.getNodeById(a).connect(0, app.graph.getNodeById(b), 0)"
    ui.page.evaluate(script, [source, target])
    (saved,) = ui.queue()["outputs"][str(target)]["audio"]
    ui.page.evaluate("() => app.graph.clear()")
    path = comfy.base / "output" / saved["subfolder"] / saved["filename"]
    assert sorted(ui.drop(path)) == ["EmptyAudio", "SaveAudio"]
