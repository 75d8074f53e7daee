"""What a node says of its run stays in the node, in both renderers and after the page's detours."""

from __future__ import annotations

import json
import uuid

import pytest
from playwright.sync_api import TimeoutError as PageTimeoutError

from tests.helpers.frontend import RENDERERS
from tests.tools.example_inputs import page_form

GRAPH = json.loads(page_form("text_to_audio").read_text("utf-8"))
LOAD, TEXT, EMPTY, SAMPLER, SAVE = 1, 2, 3, 4, 6  # node ids in it
MESSAGE = ".sa3-message:not(.sa3-measure)"
SEEN = f"""() => [...document.querySelectorAll('{MESSAGE}')]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().height > 5)
    .map(e => e.innerText.trim())"""
BOXES = """() => [...document.querySelectorAll('textarea')].filter(e => e.checkVisibility())
    .map(e => e.offsetHeight).filter(height => height > 0)"""


def forget_runs(ui) -> None:
    """What the server takes from its cache says nothing."""
    ui.server.client.forget_results()


def view(ui) -> None:
    ui.page.evaluate("() => { app.canvas.ds.scale = 0.65; app.canvas.ds.offset = [80, 130]; }")
    ui.settle(500)


def prepare(ui, renderer) -> None:
    forget_runs(ui)
    ui.use_renderer(renderer)
    ui.load({**GRAPH, "id": str(uuid.uuid4())})  # a graph that never ran
    ui.set_widget(LOAD, "model", "tiny-s")
    ui.set_widget(TEXT, "text", "warm analog synth pads, slow attack, lush reverb, 90 BPM")
    ui.set_widget(EMPTY, "seconds", 1.0)
    view(ui)


def wait_for(ui, *parts) -> None:
    script = f"parts => parts.every(part => ({SEEN})().some(text => text.includes(part)))"
    try:
        ui.page.wait_for_function(script, arg=list(parts), timeout=60_000)
    except PageTimeoutError as error:
        raise AssertionError(f"waited for {parts}, seen: {ui.page.evaluate(SEEN)}") from error


def sizes_of(ui) -> dict[int, list[float]]:
    """By node id, but for Save Audio: it makes room for the cards of what it saved."""
    nodes = [node for node in ui.workflow()["nodes"] if node["type"] != "SA3SaveAudio"]
    return {node["id"]: node["size"] for node in nodes}


@pytest.mark.smoke
@pytest.mark.parametrize("renderer", RENDERERS)
def test_what_nodes_say_stays_after_the_run(ui, renderer):
    prepare(ui, renderer)
    assert ui.page.evaluate(SEEN) == []
    boxes, sizes = ui.steady(BOXES), sizes_of(ui)
    ui.queue()
    wait_for(ui, "pingpong, 8 steps", "float32, up to 120 s", "17 tokens")
    ui.screenshot(f"messages-{renderer}")
    # Once the page has drawn the end of the run, every box is as high as before at least.
    high = f"boxes => {{ const now = ({BOXES})(); return now.every((h, i) => h >= boxes[i] - 1); }}"
    ui.page.wait_for_function(high, arg=boxes, timeout=60_000)
    now = ui.steady(BOXES)
    assert len(now) == len(boxes)
    assert all(height >= was - 1 for height, was in zip(now, boxes, strict=True)), (now, boxes)
    if renderer == "litegraph":  # Nodes 2.0 measures its nodes anew
        assert sizes_of(ui) == sizes
    ui.record_change()
    ui.set_widget(SAMPLER, "steps", 4)
    ui.record_change()
    ui.command("Comfy.Undo")
    wait_for(ui, "pingpong, 8 steps", "float32, up to 120 s")
    ui.command("Comfy.NewBlankWorkflow")
    assert ui.page.evaluate(SEEN) == []
    ui.command("Workspace.PreviousOpenedWorkflow")
    wait_for(ui, "pingpong, 8 steps", "17 tokens")


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_node_is_as_tall_as_its_last_words_need(ui, renderer):
    """A busy page lays an element out late: lines counted for a sliver of it made the node taller
    for good, where what was said while it ran was also what it said last."""
    prepare(ui, renderer)
    ui.queue()
    wait_for(ui, "pingpong, 8 steps")
    told = """([id, late]) => {
        const node = app.graph.getNodeById(id), message = node.sa3Message, { text } = message;
        const found = [[message.lines, node.size[1]]];
        const note = () => found.push([message.lines, node.size[1]]);
        const sliver = { configurable: true, get: () => 30 };
        message.say("");
        Object.defineProperty(message.element, "clientWidth", sliver);
        message.say(text, true);
        note();
        if (late) delete message.element.clientWidth;
        message.fit();
        note();
        delete message.element.clientWidth;
        message.say(text);
        note();
        return found;
    }"""
    before, narrow, wide, after = ui.page.evaluate(told, [SAMPLER, True])
    assert before == wide == after
    assert narrow[0] == 6
    assert narrow[1] > before[1] + 60
    before, narrow, still, after = ui.page.evaluate(told, [SAMPLER, False])
    assert narrow == still
    assert before == after


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_page_opened_again_asks_the_history(ui, renderer):
    prepare(ui, renderer)
    ui.queue()
    wait_for(ui, "pingpong, 8 steps")
    workflow = ui.workflow()
    ui.open()
    ui.use_renderer(renderer)
    ui.load(workflow)
    view(ui)
    wait_for(ui, "pingpong, 8 steps", "17 tokens")


def test_what_was_moved_into_a_subgraph_asks_the_history_too(ui):
    """The run knows its nodes by where they stood then; both renderers: test_widgets_again."""
    prepare(ui, "litegraph")
    ui.queue()
    wait_for(ui, "pingpong, 8 steps")
    ui.page.evaluate(
        """ids => app.graph.convertToSubgraph(
            new Set(ids.map(id => app.graph.getNodeById(id))))""",
        [LOAD, TEXT, EMPTY, SAMPLER],
    )
    workflow = ui.workflow()
    ui.open()
    ui.load(workflow)
    assert not [text for text in ui.page.evaluate(SEEN) if "pingpong" in text]
    ui.page.evaluate(
        """() => {
            const box = app.graph.nodes.find((node) => node.subgraph);
            app.canvas.openSubgraph(box.subgraph, box);
        }"""
    )
    view(ui)
    wait_for(ui, "pingpong, 8 steps", "17 tokens")


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_failed_run_leaves_nothing_that_is_no_longer_true(ui, renderer):
    prepare(ui, renderer)
    ui.set_widget(LOAD, "model", "small-music")  # to be downloaded, without a network
    ui.page.evaluate(
        """() => {
            window.sa3Said = [];
            new MutationObserver(() => {
                const messages = [...document.querySelectorAll('.sa3-message')];
                sa3Said.push(...messages.map(e => e.textContent));
            }).observe(document.body, { childList: true, subtree: true, characterData: true });
        }"""
    )
    history = ui.queue()
    assert history["status"]["status_str"] == "error"
    ui.page.wait_for_function("() => sa3Said.some(text => text.includes('downloading'))")
    ui.settle(500)
    (said,) = ui.page.evaluate(SEEN)
    assert "downloading" not in said
    assert said.startswith("small-music is not on this disk")  # the error's own words
    ui.page.keyboard.press("Escape")
    ui.errors.clear()  # the frontend logs the failed run


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_long_text_wraps_at_words_and_can_be_read_to_its_end(ui, renderer):
    forget_runs(ui)
    ui.use_renderer(renderer)
    node_id = ui.add_node("SA3PromptBuilder", 0, 60)
    target = ui.add_node("PreviewAny", 500, 60)
    words = " ".join(f"word{number}" for number in range(150))
    ui.set_widget(node_id, "details", words)
    ui.page.evaluate(
        "([a, b]) => app.graph.getNodeById(a).connect(0, app.graph.getNodeById(b), 0)",
        [node_id, target],
    )
    ui.page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [100, 60]; }")
    ui.queue()
    wait_for(ui, "word149")
    message = ui.page.locator(MESSAGE).first
    height, whole, wide, widest = message.evaluate(
        "e => [e.clientHeight, e.scrollHeight, e.clientWidth, e.scrollWidth]"
    )
    assert 90 < height < whole
    assert widest == wide
    message.click()
    ui.page.mouse.wheel(0, 5000)
    ui.settle(500)
    ui.screenshot(f"message-long-{renderer}")
    assert message.evaluate("e => e.scrollTop + e.clientHeight >= e.scrollHeight - 2")
    ends = message.evaluate(
        """e => {
            const range = document.createRange(), node = e.firstChild, broken = [];
            for (const match of node.data.matchAll(/word\\d+/g)) {
                range.setStart(node, match.index);
                range.setEnd(node, match.index + match[0].length);
                if (range.getClientRects().length > 1) broken.push(match[0]);
            }
            return broken;
        }"""
    )
    assert ends == []
