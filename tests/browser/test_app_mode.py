"""App mode: an example workflow is a form of what its job asks, and shows its result."""

from __future__ import annotations

import json

import pytest

from tests.tools.example_inputs import page_form, write_example_inputs

# The second asks for two nodes of a kind, the third for inputs that its nodes fold away.
NAMES = ("text_to_audio", "two_loras", "batch_of_prompts")
LABELS = """() => [...document.querySelectorAll('[data-testid=builder-widget-label]')]
    .filter(e => e.checkVisibility()).map(e => e.innerText.trim())"""
RESULTS = """() => [...document.querySelectorAll('[data-testid^=linear-] audio, audio')]
    .map(e => new URL(e.currentSrc || e.src || 'http://none').searchParams.get('filename'))"""


@pytest.fixture(scope="module", autouse=True)
def inputs(comfy, frontend) -> None:
    write_example_inputs(comfy)
    frontend.open()


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_a_form(ui, name):
    workflow = json.loads(page_form(name).read_text(encoding="utf-8"))
    ui.load(workflow)
    ui.command("Comfy.ToggleLinear")
    wanted = [widget for _, widget in workflow["extra"]["linearData"]["inputs"]]
    shown = f"count => ({LABELS})().length === count"
    ui.page.wait_for_function(shown, arg=len(wanted), timeout=10_000)
    assert ui.page.evaluate(LABELS) == wanted
    ui.screenshot(f"app-{name}")
    if name == NAMES[0]:
        runs_from_the_form(ui, workflow)
    ui.command("Comfy.ToggleLinear")


def runs_from_the_form(ui, workflow) -> None:
    ids = {node["type"]: node["id"] for node in workflow["nodes"]}
    ui.set_widget(ids["SA3LoadModel"], "model", "tiny-s")
    ui.set_widget(ids["SA3EmptyLatent"], "seconds", 1.0)
    with ui.page.expect_response(lambda answer: answer.url.endswith("/api/prompt")) as posted:
        # Newer pages greet a first visitor with a veil above the form.
        icon = ui.page.get_by_test_id("linear-run-button-icon")
        ui.page.locator("button", has=icon).dispatch_event("click")
    history = ui.server.client.wait_for_history(posted.value.json()["prompt_id"], 120)
    (saved,) = history["outputs"][str(ids["SA3SaveAudio"])]["audio"]
    ready = f"name => ({RESULTS})().includes(name)"
    ui.page.wait_for_function(ready, arg=saved["filename"], timeout=15_000)
    ui.screenshot("app-result")
