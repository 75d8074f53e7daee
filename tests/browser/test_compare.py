"""Compare Audio's player, help while a prompt is written, and errors at the input they name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from tests.helpers.frontend import RENDERERS

RATE = 44100
SECONDS = 8.0
CONNECT = """([from, to, input]) => {
    const target = app.graph.getNodeById(to);
    app.graph.getNodeById(from).connect(0, target, target.inputs.findIndex(i => i.name === input));
}"""
STATE = """id => {
    const { player, status } = app.graph.getNodeById(id).sa3Compare;
    return { playing: player.playing, position: player.position, current: player.current,
        startedAt: player.startedAt, status: status.textContent,
        levels: player.voices.map((voice) => voice.gain.gain.value) };
}"""
READY = "id => app.graph.getNodeById(id).sa3Compare.takes.length"


def tone(path: Path, hertz: float, level: float) -> None:
    time = torch.arange(int(SECONDS * RATE)) / RATE
    wave = level * (2 * math.pi * hertz * time).sin()
    write_audio(path, wave.repeat(2, 1), RATE, FORMATS["flac-24"])


@pytest.fixture(scope="module", autouse=True)
def takes(comfy, frontend) -> None:
    """Two tones, of which the first is 6 dB louder, where Load Audio lists them."""
    tone(comfy.base / "input" / "take_a.flac", 1000, 0.4)
    tone(comfy.base / "input" / "take_b.flac", 1000, 0.2)
    frontend.open()


def compare_graph(ui) -> int:
    compare = ui.add_node("SA3CompareAudio", x=500)
    for index, name in enumerate("ab"):
        load = ui.add_node("LoadAudio", y=100 + 300 * index)
        ui.set_widget(load, "audio", f"take_{name}.flac")
        ui.page.evaluate(CONNECT, [load, compare, name])
    return compare


def wait_for(ui, node_id, condition):
    script = f"id => {{ const state = ({STATE})(id); return {condition}; }}"
    ui.page.wait_for_function(script, arg=node_id, timeout=10_000)
    return ui.page.evaluate(STATE, node_id)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_takes_are_switched_while_they_play(ui, renderer):
    ui.use_renderer(renderer)
    node_id = compare_graph(ui)
    output = ui.queue()["outputs"][str(node_id)]
    assert [take["label"] for take in output["sa3_takes"]] == ["A", "B"]
    ui.page.wait_for_function(READY, arg=node_id, timeout=10_000)
    ui.fit()
    player = ui.page.locator(".sa3-compare")
    assert player.get_by_role("radio").all_text_contents() == ["A", "B"]
    player.get_by_role("button", name="Play").click()
    begin = wait_for(ui, node_id, "state.playing && state.position > 0.1")
    # Matched: A is turned down to B, and B is not heard.
    assert begin["levels"] == [pytest.approx(0.5, abs=0.02), 0]
    player.focus()
    ui.page.keyboard.press("2")
    after = wait_for(ui, node_id, "state.levels[0] === 0")
    assert after["levels"] == [0, pytest.approx(1.0, abs=0.02)]
    assert after["startedAt"] == begin["startedAt"]  # neither stopped nor started anew
    assert after["position"] > begin["position"]
    assert player.get_by_role("radio", name="B").get_attribute("aria-checked") == "true"
    ui.page.keyboard.press("1")
    player.get_by_label("Equal loudness").uncheck()
    loud = wait_for(ui, node_id, "state.levels[0] > 0.9")
    assert loud["levels"] == [pytest.approx(1.0), 0]
    player.focus()
    ui.screenshot(f"compare-{renderer}")
    ui.page.keyboard.press("Space")
    wait_for(ui, node_id, "!state.playing")
    ui.page.keyboard.press("Home")
    assert wait_for(ui, node_id, "state.position === 0")["status"] == ""
    graph = ui.api_graph()[str(node_id)]["inputs"]
    assert set(graph) == {"a", "b", "item"}  # the player is in no saved graph


def test_the_end_rewinds_and_a_click_seeks(ui):
    node_id = compare_graph(ui)
    ui.queue()
    ui.page.wait_for_function(READY, arg=node_id, timeout=10_000)
    ui.fit()
    canvas = ui.page.locator(".sa3-compare canvas")
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 0.95, "y": box["height"] / 2})
    state = ui.page.evaluate(STATE, node_id)
    assert state["position"] == pytest.approx(0.95 * SECONDS, abs=0.1)
    ui.page.keyboard.press("Space")
    wait_for(ui, node_id, "state.playing")
    assert wait_for(ui, node_id, "!state.playing")["position"] == 0


@pytest.mark.parametrize("renderer", RENDERERS)
def test_tags_are_completed_and_tokens_counted(ui, renderer):
    ui.use_renderer(renderer)
    node_id = ui.add_node("SA3TextEncode")
    ui.set_widget(node_id, "text", "")  # the frontend keeps what an earlier node of this id held
    box = ui.page.locator("[data-node-id] textarea, textarea.comfy-multiline-input").first
    box.click()
    ui.page.keyboard.type("TrackType: Mu")
    suggestions = ui.page.locator("#sa3-suggestions [role=option]")
    assert suggestions.all_text_contents() == ["Music"]
    ui.page.keyboard.press("Tab")
    ui.page.keyboard.type("Genr")
    ui.page.keyboard.press("Tab")
    assert "House" not in suggestions.all_text_contents()  # the list is long and sorted
    ui.page.keyboard.type("Ho")
    assert suggestions.first.text_content() == "House"
    suggestions.first.click()
    wanted = "TrackType: Music, Genre: House, "
    assert box.input_value() == wanted
    assert ui.widgets(node_id)["text"] == wanted
    ui.page.wait_for_function(
        "() => /^[1-9].* of 256 tokens$/.test(document.querySelector('.sa3-tokens').textContent)",
        timeout=10_000,
    )
    ui.screenshot(f"prompt-help-{renderer}")
    ui.page.keyboard.type("pia")
    ui.page.keyboard.press("Escape")
    assert suggestions.count() == 0 or not suggestions.first.is_visible()
    ui.set_widget(node_id, "text", "a b c d e f g h " * 100)
    ui.page.wait_for_function(
        "() => document.querySelector('.sa3-tokens').textContent.includes('only the first 256')",
        timeout=10_000,
    )
    assert "tokens" not in ui.api_graph()[str(node_id)]["inputs"]


@pytest.mark.parametrize("renderer", RENDERERS)
def test_an_estimate_of_tokens_is_readable_whole(ui, renderer):
    """Without a tokenizer on disk the line is short, and says why it is an estimate when asked."""
    answer = {"counts": [9], "limit": 256, "exact": False}
    ui.page.route("**/sa3/tokens", lambda route: route.fulfill(json=answer))
    ui.use_renderer(renderer)
    ui.add_node("SA3TextEncode")
    line = ui.page.locator(".sa3-tokens").filter(has_text="about 9 of 256 tokens")
    line.wait_for(state="attached", timeout=10_000)
    assert line.evaluate("e => e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight")
    said = "about 9 of 256 tokens (words counted: no text encoder on disk)"
    assert line.get_attribute("title") == said
    ui.page.unroute("**/sa3/tokens")


def test_the_token_route_refuses_what_is_no_text(ui, comfy):
    statuses = ui.page.evaluate(
        """async () => Promise.all(['{"text": 3}', '[]', 'x', '{"text": "a"}'].map(async (body) =>
            (await fetch('/sa3/tokens', { method: 'POST', body })).status))"""
    )
    ui.errors.clear()  # the page logs the refusals
    assert statuses == [400, 400, 400, 200]
