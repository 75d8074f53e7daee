"""Nodes that the page builds anew: our widgets show what is true now, as a person sees it."""

from __future__ import annotations

import shutil

import pytest

from tests.helpers.frontend import RENDERERS
from tests.helpers.region_editor import write_tone
from tests.tools.example_inputs import LORA

MODEL, TEXT, MASK, ADAPTER = 1, 2, 3, 4
LORA_NAME = "again_lora.safetensors"
# What stands in the elements of a class that can be seen, in the order of the page.
SEEN = """selector => [...document.querySelectorAll(selector)]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().height > 5)
    .map(e => e.innerText.trim())"""
STATUS, TOKENS, LAYERS = ".sa3-status", ".sa3-tokens", ".sa3-lora-status"
BOTH = pytest.mark.parametrize(
    "renderer", ["vue", pytest.param("litegraph", marks=pytest.mark.soak)]
)
LABELS = """() => [...document.querySelectorAll('.sa3-regions')].filter(e => e.checkVisibility())
    .map(e => [...e.querySelectorAll('[role=option]')].map(o => o.textContent).join('; '))"""


@pytest.fixture(scope="module", autouse=True)
def tone(comfy, frontend) -> None:
    write_tone(comfy.base / "input" / "again.wav", 4.0)
    shutil.copy(LORA, comfy.models("loras") / LORA_NAME)
    frontend.open()


def graph(ui) -> None:
    """A model, a prompt, a region editor and a LoRA, in a tab whose undo starts here."""
    ids = [
        ui.add_node("SA3LoadModel", 0, 60),
        ui.add_node("SA3TextEncode", 0, 520),
        ui.add_node("SA3InpaintMask", 400, 60),
        ui.add_node("SA3LoraLoader", 400, 560),
    ]
    assert [int(node_id) for node_id in ids] == [MODEL, TEXT, MASK, ADAPTER]
    ui.set_widget(MODEL, "model", "tiny-s")
    ui.set_widget(TEXT, "text", "")
    ui.set_widget(MASK, "regions", "")
    ui.set_widget(ADAPTER, "lora", LORA_NAME)
    ui.set_widget(ADAPTER, "layer_filter", "")
    ui.load(ui.workflow())
    ui.page.evaluate("() => { app.canvas.ds.scale = 0.8; app.canvas.ds.offset = [200, 60]; }")
    ui.settle(600)
    ui.record_change()


def change(ui) -> None:
    ui.set_widget(MODEL, "model", "medium")
    ui.set_widget(TEXT, "text", "warm pads")
    ui.set_widget(MASK, "regions", "1-2")
    ui.set_widget(ADAPTER, "layer_filter", "layers[0-1]")
    ui.record_change()


def wait_for(ui, selector, part) -> None:
    script = f"([selector, part]) => ({SEEN})(selector).some(text => text.includes(part))"
    ui.page.wait_for_function(script, arg=[selector, part], timeout=60_000)


def assert_first(ui) -> None:
    wait_for(ui, STATUS, "On disk")
    wait_for(ui, TOKENS, "0 of 256")
    wait_for(ui, LAYERS, "40 of 40 layers")
    ui.page.wait_for_function(f"() => ({LABELS})().join() === ''", timeout=60_000)


def assert_changed(ui) -> None:
    wait_for(ui, STATUS, "Not on disk")
    wait_for(ui, TOKENS, "of 256 tokens")
    wait_for(ui, LAYERS, "18 of 40 layers")
    ui.page.wait_for_function(f"() => ({LABELS})().join().includes('1-2')", timeout=60_000)


def assert_whole(ui, count=1) -> None:
    """Each editor has its buttons, and what is pressed answers."""
    toolbars = ui.page.locator(".sa3-regions [role=toolbar]:visible")
    assert toolbars.count() == count
    toggle = toolbars.last.get_by_role("button", name="Loop")
    before = toggle.get_attribute("aria-pressed")
    toggle.click()
    assert toggle.get_attribute("aria-pressed") != before
    toggle.click()


@pytest.mark.smoke
@pytest.mark.parametrize("renderer", RENDERERS)
def test_undo_and_redo(ui, renderer):
    ui.use_renderer(renderer)
    graph(ui)
    assert_first(ui)
    change(ui)
    assert_changed(ui)
    for _ in range(2):
        ui.command("Comfy.Undo")
        assert_first(ui)
        ui.command("Comfy.Redo")
        assert_changed(ui)
        assert_whole(ui)
    ui.screenshot(f"redone-{renderer}")


@pytest.mark.smoke
@pytest.mark.parametrize("renderer", RENDERERS)
def test_another_tab_and_back(ui, renderer):
    """Both tabs hold nodes of the same ids."""
    ui.use_renderer(renderer)
    graph(ui)
    change(ui)
    workflow = ui.workflow()
    workflow["id"] = "5a3b8d6e-0000-4000-8000-000000000001"
    for node in workflow["nodes"]:
        if node["type"] == "SA3LoadModel":
            node["widgets_values"][0] = "tiny-s"
        if node["type"] == "SA3InpaintMask":
            node["widgets_values"][0] = "3-4"
    ui.load(workflow)
    ui.settle(800)
    wait_for(ui, STATUS, "On disk")
    ui.page.wait_for_function(f"() => ({LABELS})().join().includes('3-4')", timeout=60_000)
    ui.command("Workspace.PreviousOpenedWorkflow")
    ui.settle(800)
    assert_changed(ui)
    assert_whole(ui)
    assert not any("3-4" in label for label in ui.page.evaluate(LABELS))
    ui.command("Workspace.NextOpenedWorkflow")
    ui.settle(800)
    wait_for(ui, STATUS, "On disk")
    ui.page.wait_for_function(f"() => ({LABELS})().join().includes('3-4')", timeout=60_000)


@BOTH
def test_copy_and_paste(ui, renderer):
    ui.use_renderer(renderer)
    graph(ui)
    change(ui)
    assert_changed(ui)
    ui.page.evaluate(
        """ids => {
            app.canvas.deselectAll();
            app.canvas.selectItems(ids.map(id => app.graph.getNodeById(id)));
            app.canvas.copyToClipboard();
            app.canvas.pasteFromClipboard({ position: [820, 60] });
        }""",
        [MODEL, MASK, ADAPTER],
    )
    ui.settle(800)
    two = f"""selector => ({SEEN})(selector)
        .filter(text => text.startsWith('Not on disk')).length === 2"""
    ui.page.wait_for_function(two, arg=STATUS, timeout=60_000)
    both = f"""selector => ({SEEN})(selector)
        .filter(text => text.includes('18 of 40 layers')).length === 2"""
    ui.page.wait_for_function(both, arg=LAYERS, timeout=60_000)
    regions = f"() => ({LABELS})().filter(text => text.includes('1-2')).length === 2"
    ui.page.wait_for_function(regions, timeout=60_000)
    assert_whole(ui, count=2)


@BOTH
def test_into_a_subgraph_and_out(ui, renderer):
    ui.use_renderer(renderer)
    graph(ui)
    change(ui)
    assert_changed(ui)
    ui.page.evaluate(
        """ids => {
            const items = new Set(ids.map(id => app.graph.getNodeById(id)));
            const { node } = app.graph.convertToSubgraph(items);
            app.canvas.openSubgraph(node.subgraph, node);
            app.canvas.ds.scale = 0.8;
            app.canvas.ds.offset = [200, 60];
        }""",
        [MODEL, TEXT, MASK, ADAPTER],
    )
    ui.settle(800)
    assert_changed(ui)
    assert_whole(ui)
    ui.page.evaluate("() => app.canvas.setGraph(app.rootGraph)")
    ui.settle(800)
    ui.page.evaluate("() => app.graph.unpackSubgraph(app.graph.nodes.find(n => n.subgraph))")
    ui.page.evaluate("() => { app.canvas.ds.scale = 0.8; app.canvas.ds.offset = [200, 60]; }")
    ui.settle(800)
    assert_changed(ui)
    assert_whole(ui)


@BOTH
def test_the_page_is_opened_again(ui, renderer):
    ui.use_renderer(renderer)
    graph(ui)
    change(ui)
    assert_changed(ui)
    workflow = ui.workflow()
    ui.open()
    ui.use_renderer(renderer)
    ui.load(workflow)
    ui.page.evaluate("() => { app.canvas.ds.scale = 0.8; app.canvas.ds.offset = [200, 60]; }")
    ui.settle(800)
    assert_changed(ui)
    assert_whole(ui)


def test_the_renderer_is_switched(ui):
    graph(ui)
    change(ui)
    assert_changed(ui)
    for renderer in ("vue", "litegraph"):
        ui.use_renderer(renderer)
        ui.settle(800)
        assert_changed(ui)
        assert_whole(ui)
