"""What the region editor costs: opening a long piece, dragging, and being opened often.

Times depend on what else a machine does: all of this is behind `dev.py test --all`.
"""

from __future__ import annotations

import json
import os

import pytest

from tests.helpers.region_editor import EDITOR, EditorPage, graph, write_tone

pytestmark = pytest.mark.soak

SECONDS = 380.0
LONG = "sa3_long_tone.flac"
OPEN_SECONDS = 1.0
TRIES = 3  # other work on the machine
MOVE_MS, TASK_MS = 8.0, 50.0
MOVES = 60
OPENINGS = 100


@pytest.fixture(scope="session")
def long_tone(comfy):
    """A file of 380 s in the input folder."""
    write_tone(comfy.base / "input" / LONG, SECONDS)
    return LONG


@pytest.fixture
def editor(long_tone, ui):
    page = EditorPage(ui)
    page.load(graph(long_tone))
    return page


def test_a_long_piece_opens_within_a_second(editor, comfy):
    opened, drawn = min(open_anew(editor, comfy) for _ in range(TRIES))
    assert opened + drawn < 1000 * OPEN_SECONDS
    assert drawn < TASK_MS


def open_anew(editor, comfy):
    """Milliseconds for decoding, sending and unpacking the file, and for drawing it."""
    os.utime(comfy.base / "input" / LONG)  # what the server knew of it is out of date
    return editor.evaluate(
        f"""async () => {{
            const {{ sound, screen }} = {EDITOR};
            const begin = performance.now();
            await sound.load(sound.source);
            const loaded = performance.now();
            screen.isStale = true;
            screen.drawNow();
            return [loaded - begin, performance.now() - loaded];
        }}"""
    )


@pytest.mark.parametrize("renderer", ["litegraph", "vue"])
def test_a_drag_costs_little(long_tone, ui, browser, renderer, tmp_path):
    ui.use_renderer(renderer)
    editor = EditorPage(ui)
    editor.load(graph(long_tone, "10-20, 200-250, 300-310"))
    editor.drag(120, 130)  # code that runs for the first time is compiled first
    ui.settle(500)
    trace = tmp_path / "trace.json"
    ui.page.mouse.move(*editor.place(225))
    browser.start_tracing(
        page=ui.page, path=trace, categories=["devtools.timeline", "toplevel", "v8.execute"]
    )
    ui.page.mouse.down()
    ui.page.mouse.move(*editor.place(100), steps=MOVES)
    browser.stop_tracing()
    ui.page.mouse.up()
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    moves = [
        event
        for event in events
        if event["name"] == "EventDispatch" and event["args"]["data"]["type"] == "pointermove"
    ]
    assert len(moves) >= MOVES / 2
    ours = [e for e in events if e["name"] == "FunctionCall" and "/regions/" in url_of(e)]
    script = sum(event["dur"] for event in ours) / 1000 / len(moves)
    main = {(event["pid"], event["tid"]) for event in moves}
    on_main = [e for e in events if is_task(e) and (e["pid"], e["tid"]) in main]
    tasks = [e.get("tdur", e["dur"]) / 1000 for e in on_main]  # its own time: cores are shared
    dispatch = sorted(event["dur"] / 1000 for event in moves)
    assert script <= MOVE_MS
    assert dispatch[len(dispatch) * 9 // 10] <= MOVE_MS
    assert max(tasks) <= TASK_MS


def url_of(event):
    return event["args"].get("data", {}).get("url", "")


def is_task(event):
    return event["name"] in ("RunTask", "ThreadControllerImpl::RunTask") and event["ph"] == "X"


def test_a_hundred_openings_leave_nothing_behind(editor, ui):
    """No more than the page itself keeps of a stock node with a text box."""
    session = ui.page.context.new_cdp_session(ui.page)

    def held():
        for _ in range(3):
            session.send("HeapProfiler.collectGarbage")
        counts = session.send("Memory.getDOMCounters")
        heap = session.send("Runtime.getHeapUsage")["usedSize"]
        return heap, counts["nodes"], counts["jsEventListeners"]

    def open_and_close(kind, times):
        for _ in range(times):
            ui.page.evaluate(OPEN_AND_CLOSE, kind)

    def growth(kind):
        open_and_close(kind, 5)
        before = held()
        open_and_close(kind, OPENINGS)
        return [after - was for was, after in zip(before, held(), strict=True)]

    stock, ours = growth("CLIPTextEncode"), growth("SA3InpaintMask")
    session.detach()
    assert ours[0] - stock[0] < OPENINGS * 20_000
    assert ours[1] - stock[1] < OPENINGS * 5
    assert ours[2] < OPENINGS


OPEN_AND_CLOSE = """kind => {
    const node = LiteGraph.createNode(kind);
    app.graph.add(node);
    const slot = node.findInputSlot("audio");
    if (slot >= 0) app.graph.getNodeById(1).connect(0, node, slot);
    return new Promise(done => setTimeout(() => {
        app.graph.remove(node);
        setTimeout(done, 20);
    }, 30));
}"""
