"""The loaders say before queueing what is on disk; advanced inputs are folded away."""

from __future__ import annotations

import json
import uuid

import pytest

from tests.helpers.frontend import RENDERERS
from tests.tools.example_inputs import page_form

STATUS = "id => app.graph.getNodeById(id).sa3Status.textContent"
ON_PAGE = "() => [...document.querySelectorAll('.sa3-status')].map(e => e.getBoundingClientRect())"

CUT_OFF = """id => { const e = app.graph.getNodeById(id).sa3Status;
    return e.scrollHeight > e.clientHeight; }"""


def source_in_sight(ui, renderer, node_id):
    """Whether a person sees where a download comes from."""
    if renderer == "vue":
        ui.settle(200)
        field = ui.page.locator(f'[data-node-id="{node_id}"]').get_by_text("download_from")
        return field.count() > 0 and field.first.is_visible()
    return ui.page.evaluate(
        """id => { const node = app.graph.getNodeById(id);
            return node.isWidgetVisible(node.widgets.find(w => w.name === "download_from")); }""",
        node_id,
    )


def wait_for_status(ui, node_id, part):
    script = "([id, part]) => app.graph.getNodeById(id).sa3Status.textContent.includes(part)"
    ui.page.wait_for_function(script, arg=[node_id, part], timeout=60_000)
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
    assert wait_for_status(ui, node_id, "On disk") == "On disk (33.5 MB)."
    (box,) = ui.page.evaluate(ON_PAGE)
    assert box["width"] > 50
    assert box["height"] > 10
    # Said in the node, never in the value.
    assert ui.api_graph()[str(node_id)]["inputs"]["model"] == "tiny-s"


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_first_run_offers_what_is_smallest_and_open(ui, renderer):
    ui.use_renderer(renderer)
    ui.page.evaluate("() => { app.graph.id = crypto.randomUUID(); }")
    node_id = ui.add_node("SA3LoadModel")
    ui.set_widget(node_id, "model", "small-music")
    status = wait_for_status(ui, node_id, "Not on disk")
    assert ui.widgets(node_id)["download_from"] == "mirror"
    first, other = status.splitlines()
    assert "1.7 GB (bf16) from mirror; no login needed" in first
    assert "upstream: 3.4 GB (fp32); gated: accept its licence and log in" in other
    # The whole of it is in sight, and so is the choice, which is advanced otherwise.
    assert ui.page.evaluate(CUT_OFF, node_id) is False
    assert source_in_sight(ui, renderer, node_id)
    ui.set_widget(node_id, "model", "tiny-s")
    wait_for_status(ui, node_id, "On disk")
    assert not source_in_sight(ui, renderer, node_id)


DIALOGS = "[role=dialog], .p-dialog, [data-testid=error-overlay]"


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_template_without_its_weights_links_to_them_in_the_node(ui, renderer):
    """The page lists only combos that hold a file's name as missing: ours is never among them."""
    ui.use_renderer(renderer)
    graph = json.loads(page_form("audio_to_audio").read_text("utf-8"))
    ui.load({**graph, "id": str(uuid.uuid4())})
    (loader,) = [node["id"] for node in graph["nodes"] if node["type"] == "SA3LoadModel"]
    wait_for_status(ui, loader, "1.7 GB")
    ui.page.evaluate("id => app.canvas.centerOnNode(app.graph.getNodeById(id))", loader)
    ui.page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.setDirty(true, true); }")
    ui.page.evaluate("id => app.canvas.centerOnNode(app.graph.getNodeById(id))", loader)
    ui.settle(500)
    assert ui.page.locator(DIALOGS).count() == 0
    links = ui.page.locator(".sa3-status a:visible")
    facts = "links => links.map(link => [link.textContent, link.href, link.title.split(' → ')[1]])"
    folder = "models/stable_audio_3/small-music"
    site = "https://huggingface.co"
    assert links.evaluate_all(facts) == [
        ["mirror", f"{site}/AEmotionStudio/stable-audio-3-mirrors/tree/main/small-music", folder],
        ["upstream", f"{site}/stabilityai/stable-audio-3-small-music", folder],
    ]
    for link in links.all():
        link.click(trial=True)  # nothing lies over it
        with ui.page.expect_popup() as opened:
            link.click()
        opened.value.close()


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_download_that_fails_is_told_in_the_node(ui, renderer):
    ui.use_renderer(renderer)
    ui.page.evaluate("() => { app.graph.id = crypto.randomUUID(); }")
    graph = json.loads(page_form("text_to_audio").read_text("utf-8"))
    ui.load(graph)
    ui.set_widget(1, "model", "tiny-s")
    ui.set_widget(3, "seconds", 1.0)
    ui.queue()  # leaves outputs in the server's history
    ui.load(graph)
    ui.set_widget(1, "model", "small-music")
    ui.queue()
    says = "() => [...document.querySelectorAll('.sa3-message')].map(e => e.textContent).join()"
    ui.page.wait_for_function(f"() => ({says})().includes('downloads are switched off')")
    # What earlier runs of this graph said comes seconds after it was opened, and no longer counts.
    ui.settle(3000)
    assert "downloads are switched off" in ui.page.evaluate(says)
    assert "downloading..." not in ui.page.evaluate(says)
    assert "Not on disk" in wait_for_status(ui, 1, "Not on disk")
    ui.errors.clear()  # the frontend logs the failed run
    ui.page.keyboard.press("Escape")


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
