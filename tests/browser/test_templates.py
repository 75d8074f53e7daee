"""Templates as a stranger meets them: found by the model's name, and models that are missing."""

from __future__ import annotations

import re

from tests.helpers.frontend import Frontend
from tests.tools import prompt_box
from tests.tools.example_inputs import page_form, workflow_names

LONG = 60_000  # ms; the browser of templates draws hundreds of pictures
PICTURES = re.compile(r"/templates/.*\.(webp|png|jpg|mp3|mp4)(\?.*)?$")  # of ComfyUI's templates
MISSING = "[data-testid=error-overlay]"


def test_a_search_for_the_model_finds_every_template(ui: Frontend):
    ui.page.route(PICTURES, lambda route: route.abort())
    try:
        ui.command("Comfy.BrowseTemplates")
        dialog = ui.page.get_by_role("dialog")
        field = dialog.locator("input").first
        field.wait_for(timeout=LONG)
        field.fill("stable audio")
        titles = [page_form(name).stem for name in workflow_names()]
        shown = "titles => titles.every(title => document.querySelector('[role=dialog]')"
        shown += ".textContent.includes(title))"
        ui.page.wait_for_function(shown, arg=titles, timeout=LONG)
        closed = "() => !document.querySelector('[role=dialog]')"
        ui.page.keyboard.press("Escape")
        ui.page.wait_for_function(closed, timeout=LONG)
    finally:
        ui.page.unroute(PICTURES)
        ui.errors.clear()  # the pictures that were not asked for


def test_the_box_that_writes_prompts_opens_and_offers_its_language_model(ui: Frontend):
    ui.load(prompt_box.make_prompt_box())
    (box,) = [node["id"] for node in ui.workflow()["nodes"]]
    shown = ui.widgets(box)
    assert set(shown) == {name for name, _ in prompt_box.SHOWN}
    assert shown["category"] == prompt_box.CATEGORIES[0]
    ui.set_widget(box, "wish", "rain on a tent")
    ui.set_widget(box, "category", "SFX")
    graph = ui.api_graph()
    by_type = {node["class_type"]: node["inputs"] for node in graph.values()}
    assert by_type["StringReplace"]["replace"] == "rain on a tent"
    assert by_type["CustomCombo"]["choice"] == "SFX"
    # Tests have no language model: the page says which file is missing, and where it belongs.
    model = prompt_box.LANGUAGE_MODEL
    overlay = ui.page.locator(MISSING)
    overlay.get_by_text(model["name"]).first.wait_for(timeout=LONG)
    offered = ui.page.evaluate(
        """() => app.extensionManager.workflow.activeWorkflow.pendingWarnings
            .missingModelCandidates.map(({ name, url, directory }) => ({ name, url, directory }))"""
    )
    assert offered == [model]
    ui.page.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    ui.errors.clear()  # the page may not ask other hosts for the file's size
    ui.outside.clear()
