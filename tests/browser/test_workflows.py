"""Every example workflow opens without a complaint and queues what its API form says."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.helpers.frontend import RENDERERS, Frontend
from tests.helpers.harness import ComfyServer
from tests.helpers.opened import SEEN_AT_OPENING
from tests.helpers.overlaps import lasting_overlaps, overlaps
from tests.tools.example_inputs import (
    api_workflow,
    page_form,
    with_defaults,
    workflow_names,
    write_example_inputs,
)

NAMES = workflow_names()
COMPLAINTS = """() => [...document.querySelectorAll(
    '[role=dialog], .p-dialog, .p-toast-message-error, .p-toast-message-warn, '
    + '[data-testid=error-overlay]')]
    .map(element => element.textContent)"""


@pytest.fixture(scope="module")
def opened(frontend: Frontend, comfy: ComfyServer) -> None:
    """The frontend, knowing the files that a user of the examples brings."""
    write_example_inputs(comfy)
    comfy.client.post("/history", {"clear": True})  # what earlier runs said would come back
    frontend.open()


def differences(queued: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Node id -> what of it is queued, and what should be, where they are not the same."""
    found: dict[str, Any] = {}
    for node in sorted({*queued, *wanted}):
        pair = [graph.get(node, {"inputs": {}}) for graph in (queued, wanted)]
        if pair[0] != pair[1]:
            values = [set(map(repr, node["inputs"].items())) for node in pair]
            found[node] = (values[0] - values[1], values[1] - values[0], pair[0].get("class_type"))
    return found


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("name", NAMES)
def test_the_ui_form_opens_and_gives_the_api_form(ui, comfy, name):
    wanted = with_defaults(api_workflow(name), comfy.client.object_info())
    for renderer in RENDERERS:
        ui.use_renderer(renderer)
        ui.load(page_form(name))
        ui.settle(500)
        assert ui.page.evaluate(COMPLAINTS) == []
        queued = ui.api_graph()
        for node in queued.values():
            node.pop("_meta", None)
        assert differences(queued, wanted) == {}
        ui.fit()
        assert lasting_overlaps(ui, renderer) == []
        ui.screenshot(f"workflow-{name}-{renderer}")
        if renderer == "litegraph":  # the tests of the files count on their sizes
            assert sizes(ui.workflow()) == sizes(json.loads(page_form(name).read_text("utf-8")))


def sizes(workflow: dict[str, Any]) -> dict[int, list[int]]:
    """Size of each node that is not folded to its title."""
    open_nodes = [n for n in workflow["nodes"] if not n.get("flags", {}).get("collapsed")]
    return {node["id"]: [round(side) for side in node["size"]] for node in open_nodes}


SMALL_SCREEN = {"width": 1366, "height": 768}
LEAST = 8  # pixels of a title that can be read


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_template_opens_whole_and_readable_on_a_small_screen(ui, renderer):
    """Nothing of the page lies over a node or a group's title, and frames hold their nodes."""
    ui.use_renderer(renderer)
    before = ui.page.viewport_size
    ui.page.set_viewport_size(SMALL_SCREEN)
    try:
        for name in NAMES:
            # As the page's template browser opens it.
            workflow = json.loads(page_form(name).read_text("utf-8"))
            script = "([workflow, name]) => app.loadGraphData(workflow, true, true, name)"
            ui.page.evaluate(script, [workflow, name])
            ui.settle(700)
            seen = ui.page.evaluate(SEEN_AT_OPENING)
            assert seen["title"] >= LEAST, name
            assert seen["hasMap"], name
            assert len(seen["nodes"]) == len(workflow["nodes"]), name
            assert len(seen["titles"]) == len(workflow["groups"]) >= 3, name
            assert seen["covered"] == [], name
            assert seen["outOfFrame"] == [], name
            for _, left, top, right, bottom in seen["nodes"]:
                assert left >= 0 <= top, name
                assert right <= SMALL_SCREEN["width"], name
                assert bottom <= SMALL_SCREEN["height"], name
    finally:
        ui.page.set_viewport_size(before)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_what_lies_on_one_another_is_found(ui, renderer):
    ui.use_renderer(renderer)
    ui.add_node("SA3LoadModel", 0, 60)
    other = ui.add_node("SA3InpaintMask", 500, 60)
    ui.fit()
    assert overlaps(ui, renderer) == []
    ui.page.evaluate(
        """id => {
            const node = app.graph.getNodeById(id);
            node.pos = [200, 100];
            const editor = node.widgets.find((widget) => widget.name === "regions_editor")
                ?? node.widgets.find((widget) => widget.element?.dataset?.sa3Widget);
            editor.element.style.marginTop = "-60px";
        }""",
        other,
    )
    ui.settle(600)
    found = overlaps(ui, renderer)
    assert f"node {int(other) - 1} and node {other}" in found
    assert [pair for pair in found if f"of node {other}" in pair]


def test_the_template_browser_is_told_of_them(comfy):
    templates = comfy.client.get("/workflow_templates")["ComfyUI-SA3"]
    assert sorted(templates) == sorted(page_form(name).stem for name in NAMES)
    for name in templates:
        path = f"/api/workflow_templates/ComfyUI-SA3/{quote(name)}"
        assert json.loads(comfy.client.get_bytes(f"{path}.json"))["nodes"]
        assert comfy.client.get_bytes(f"{path}.jpg").startswith(b"\xff\xd8\xff")
