"""The loaders say before queueing what is on disk; advanced inputs are folded away."""

from __future__ import annotations

import pytest

from tests.helpers.frontend import RENDERERS

STATUS = "id => app.graph.getNodeById(id).sa3Status.textContent"
ON_PAGE = "() => [...document.querySelectorAll('.sa3-status')].map(e => e.getBoundingClientRect())"


def wait_for_status(ui, node_id, part):
    script = "([id, part]) => app.graph.getNodeById(id).sa3Status.textContent.includes(part)"
    ui.page.wait_for_function(script, arg=[node_id, part], timeout=10_000)
    return ui.page.evaluate(STATUS, node_id)


@pytest.mark.smoke
@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_node_says_whether_its_model_is_there(ui, renderer):
    ui.use_renderer(renderer)
    node_id = ui.add_node("SA3LoadModel")
    ui.set_widget(node_id, "model", "small-music")
    ui.set_widget(node_id, "download_from", "upstream")
    status = wait_for_status(ui, node_id, "Not on disk")
    assert "3.4 GB" in status
    assert "stabilityai/stable-audio-3-small-music" in status
    ui.set_widget(node_id, "download_from", "mirror")
    assert "1.7 GB" in wait_for_status(ui, node_id, "mirror")
    ui.set_widget(node_id, "model", "tiny-s")
    assert wait_for_status(ui, node_id, "On disk") == "On disk (0.03 GB)."
    (box,) = ui.page.evaluate(ON_PAGE)
    assert box["width"] > 50
    assert box["height"] > 10
    # Said in the node, never in the value.
    assert ui.api_graph()[str(node_id)]["inputs"]["model"] == "tiny-s"


def test_a_loaded_graph_shows_its_own_models_state(ui):
    node_id = ui.add_node("SA3LoadSAME")
    ui.set_widget(node_id, "autoencoder", "same-l")
    ui.set_widget(node_id, "download_from", "upstream")
    wait_for_status(ui, node_id, "Not on disk")
    graph = ui.workflow()
    ui.page.evaluate("() => app.graph.clear()")
    ui.load(graph)
    assert "stabilityai/SAME-L" in wait_for_status(ui, node_id, "Not on disk")


def test_the_text_is_in_the_language_of_the_interface(ui):
    ui.set_setting("Comfy.Locale", "fr")
    ui.settle(1500)  # the frontend opens the graph anew
    try:
        node_id = ui.add_node("SA3LoadModel")
        ui.set_widget(node_id, "model", "small-music")
        wait_for_status(ui, node_id, "Pas sur le disque")
        assert ui.page.evaluate("id => app.graph.getNodeById(id).title", node_id)
    finally:
        ui.set_setting("Comfy.Locale", "en")


def test_the_route_lists_every_choice(comfy):
    states = comfy.client.get("/sa3/models")
    info = comfy.client.object_info()
    choices = info["SA3LoadModel"]["input"]["required"]["model"][1]["options"]
    assert list(states["models"]) == choices
    assert states["models"]["tiny-s"]["bytes"] > 30e6
    assert states["models"]["medium"]["download"] == {"upstream": 10347508676, "mirror": 5173754338}
    same = info["SA3LoadSAME"]["input"]["required"]["autoencoder"][1]["options"]
    assert list(states["autoencoders"]) == same


def test_advanced_inputs_are_folded_away_until_asked_for(ui):
    node_id = ui.add_node("SA3Sampler")
    shown = """id => { const node = app.graph.getNodeById(id);
        return node.widgets.filter(w => node.isWidgetVisible(w)).map(w => w.name); }"""
    folded = ui.page.evaluate(shown, node_id)
    assert "cfg" in folded
    assert "norm_threshold" not in folded
    height = "id => app.graph.getNodeById(id).size[1]"
    small = ui.page.evaluate(height, node_id)
    ui.page.evaluate(
        "id => app.graph.getNodeById(id).widgets.find(w => w.name === 'advanced').callback()",
        node_id,
    )
    assert "norm_threshold" in ui.page.evaluate(shown, node_id)
    assert ui.page.evaluate(height, node_id) > small + 100
    assert "advanced" not in ui.api_graph()[str(node_id)]["inputs"]
