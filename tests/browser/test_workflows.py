"""Every example workflow opens without a complaint and queues what its API form says."""

from __future__ import annotations

import json

import pytest

from tests.browser.example_inputs import (
    WORKFLOWS,
    api_workflow,
    workflow_names,
    write_example_inputs,
)
from tests.browser.frontend import RENDERERS, Frontend
from tests.server.harness import ComfyServer

NAMES = workflow_names()
COMPLAINTS = """() => [...document.querySelectorAll(
    '[role=dialog], .p-dialog, .p-toast-message-error, .p-toast-message-warn')]
    .map(element => element.textContent)"""


@pytest.fixture(scope="module")
def opened(frontend: Frontend, comfy: ComfyServer) -> None:
    """The frontend, knowing the files that a user of the examples brings."""
    write_example_inputs(comfy)
    frontend.open()


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("name", NAMES)
def test_the_ui_form_opens_and_gives_the_api_form(ui, name):
    for renderer in RENDERERS:
        ui.use_renderer(renderer)
        ui.load(WORKFLOWS / f"{name}.json")
        ui.settle(500)
        assert ui.page.evaluate(COMPLAINTS) == []
        queued = ui.api_graph()
        for node in queued.values():
            node.pop("_meta", None)
        assert queued == api_workflow(name)
        ui.fit()
        ui.screenshot(f"workflow-{name}-{renderer}")


def test_the_template_browser_is_told_of_them(comfy):
    templates = comfy.client.get("/workflow_templates")["ComfyUI-SA3"]
    assert sorted(templates) == NAMES
    for name in NAMES:
        path = f"/api/workflow_templates/ComfyUI-SA3/{name}"
        assert json.loads(comfy.client.get_bytes(f"{path}.json"))["nodes"]
        assert comfy.client.get_bytes(f"{path}.jpg").startswith(b"\xff\xd8\xff")
