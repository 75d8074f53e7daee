"""Drives ComfyUI's real frontend in Chromium: load a graph, switch renderers, queue, look."""

from __future__ import annotations

import base64
import json
import mimetypes
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Page, Request, Response

from tests.helpers.harness import ComfyServer
from tests.helpers.support import ROOT

ARTIFACTS = ROOT / "tests" / "artifacts"
READY = """() => window.app?.vueAppReady && window.app.extensionManager
    && window.LiteGraph?.registered_node_types?.SaveAudio && window.app.graph.nodes.length > 0
    && window.app.extensionManager.workflow?.activeWorkflow && !window.app.pendingCamera"""
# After a load the page moves the view, some frames later: what is set before that is lost.
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
VIEW_SET = "() => !window.app.pendingCamera"
# The frontend asks for files that a fresh user does not have; the server's 404 is the answer.
ABSENT_BY_DESIGN = ("/user.css", "/api/userdata", "/favicon.ico")
AUDIO_TYPES = {
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".wav": "audio/wav",
}
# What the frontend says by itself when it starts: a race of its own, and its first graph's models.
STOCK_START = ("ComfyApp graph accessed before initialization", "Comfy-Org/z_image_turbo")
RENDERERS = ("litegraph", "vue")
SLOW = 120_000  # ms that the page may take to open beside other work


class Frontend:
    """One page of the frontend, and what went wrong on it.

    Attributes:
        page: Playwright's page, for anything this class does not offer.
        errors: uncaught exceptions and console errors since the last `reset`.
        outside: requests that left the server since the last `reset`.
    """

    def __init__(self, page: Page, server: ComfyServer) -> None:
        self.page, self.server = page, server
        self.errors: list[str] = []
        self.outside: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("console", self._on_console)
        page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        url = message.location.get("url", "")
        absent = "404" in message.text and any(part in url for part in ABSENT_BY_DESIGN)
        stock = any(part in message.text for part in STOCK_START)
        if message.type == "error" and not absent and not stock:
            self.errors.append(f"console: {message.text} ({url})")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self.server.url, "data:", "blob:")):
            self.outside.append(request.url)

    def open(self) -> None:
        """Open the frontend afresh and wait until its first graph stands."""
        # It would restore what the last test left, be it an empty graph: forget that, on a page
        # of the same server that does not write it down again when it is left.
        self.page.goto(f"{self.server.url}/system_stats", timeout=SLOW)
        self.page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        self.server.client.post("/settings", {"Comfy.TutorialCompleted": True})
        self.page.goto(self.server.url, wait_until="domcontentloaded", timeout=SLOW)
        self.page.wait_for_function(READY, timeout=SLOW)

    def reset(self) -> None:
        """Empty graph, litegraph renderer, no errors; cheaper than `open`."""
        self.use_renderer("litegraph")
        self.page.evaluate("() => window.app.graph.clear()")
        self.settle()
        self.errors.clear()
        self.outside.clear()

    def settle(self, milliseconds: float = 300) -> None:
        """Let the frontend draw."""
        self.page.wait_for_timeout(milliseconds)

    def steady(self, script: str, still: float = 1.0, timeout: float = 60.0) -> Any:
        """What a script answers once it has answered the same for `still` seconds.

        Raises:
            AssertionError: it went on changing.
        """
        end, since, last = time.monotonic() + timeout, time.monotonic(), self.page.evaluate(script)
        while time.monotonic() - since < still:
            assert time.monotonic() < end, f"still changing: {last}"
            self.settle(100)
            now = self.page.evaluate(script)
            if now != last:
                since, last = time.monotonic(), now
        return last

    def use_renderer(self, name: str) -> None:
        """Switch to "litegraph" (canvas) or "vue" (Nodes 2.0).

        Raises:
            ValueError: another name.
        """
        if name not in RENDERERS:
            raise ValueError(f"unknown renderer {name!r}; known: {', '.join(RENDERERS)}")
        self.set_setting("Comfy.VueNodes.Enabled", name == "vue")

    def set_setting(self, key: str, value: Any) -> None:
        script = "([key, value]) => window.app.ui.settings.setSettingValueAsync(key, value)"
        self.page.evaluate(script, [key, value])
        self.settle()

    def node_types(self) -> set[str]:
        """Every node type the frontend registered."""
        return set(self.page.evaluate("() => Object.keys(LiteGraph.registered_node_types)"))

    def load(self, workflow: Path | dict[str, Any]) -> None:
        """Load a workflow in UI format, given as its content or its file."""
        if isinstance(workflow, Path):
            workflow = json.loads(workflow.read_text(encoding="utf-8"))
        self.page.evaluate("workflow => window.app.loadGraphData(workflow)", workflow)
        self.page.evaluate(FRAMES)
        self.page.wait_for_function(VIEW_SET, timeout=SLOW)
        self.settle()

    def add_node(self, node_type: str, x: float = 100, y: float = 100) -> int:
        """Put a new node on the canvas; returns its id."""
        script = """([type, pos]) => {
            const node = LiteGraph.createNode(type);
            node.pos = pos;
            window.app.graph.add(node);
            return node.id;
        }"""
        node_id = self.page.evaluate(script, [node_type, [x, y]])
        self.settle()
        return node_id

    def widgets(self, node_id: int) -> dict[str, Any]:
        """Widget values of a node by name."""
        script = """id => Object.fromEntries(
            (app.graph.getNodeById(id).widgets ?? []).map(w => [w.name, w.value]))"""
        return self.page.evaluate(script, node_id)

    def set_widget(self, node_id: int, name: str, value: Any) -> None:
        """Set a widget as a user's edit does, its callback included."""
        script = """([id, name, value]) => {
            const node = app.graph.getNodeById(id);
            const widget = node.widgets.find(w => w.name === name);
            widget.value = value;
            widget.callback?.(value, app.canvas, node);
        }"""
        self.page.evaluate(script, [node_id, name, value])
        self.settle()

    def workflow(self) -> dict[str, Any]:
        """The graph in UI format."""
        # As text: what stands twice in an answer's objects comes over as None the second time.
        script = "async () => JSON.stringify((await app.graphToPrompt()).workflow)"
        return json.loads(self.page.evaluate(script))

    def api_graph(self) -> dict[str, Any]:
        """The graph in API format, as queueing posts it."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def queue(self, timeout: float = 120.0) -> dict[str, Any]:
        """Queue the graph as the Run button does and wait for its history entry.

        Raises:
            AssertionError: the server refused the graph.
            TimeoutError: it did not end in time.
        """
        with self.page.expect_response(_is_prompt) as posted:
            self.page.evaluate("() => { app.queuePrompt(0); }")
        answer = posted.value
        assert answer.status == 200, answer.text()
        history = self.server.client.wait_for_history(answer.json()["prompt_id"], timeout)
        self.settle()
        return history

    def drop(self, path: Path) -> list[str]:
        """Drop a file on the canvas; returns the node types of the graph it leaves."""
        script = """async ([bytes, type, name]) => {
            const data = Uint8Array.from(atob(bytes), c => c.charCodeAt(0));
            await app.handleFile(new File([data], name, { type }));
        }"""
        kind = AUDIO_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
        self.page.evaluate(script, [base64.b64encode(path.read_bytes()).decode(), kind, path.name])
        self.settle(1000)
        return self.page.evaluate("() => app.graph.nodes.map(node => node.type)")

    def command(self, name: str) -> None:
        """Do what a menu entry or a key of the frontend does."""
        script = "async name => { await app.extensionManager.command.execute(name); }"
        self.page.evaluate(script, name)
        self.settle(600)

    def record_change(self) -> None:
        """Make what was changed a step of undo; a user's click outside the widget does it."""
        self.page.evaluate(
            """() => {
                const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker;
                (tracker.captureCanvasState ?? tracker.checkState).call(tracker);
            }"""
        )
        self.settle(100)

    def fit(self) -> None:
        """Move the view so that the whole graph shows."""
        self.command("Comfy.Canvas.FitView")

    def screenshot(self, name: str) -> Path:
        """Keep a picture of the page as tests/artifacts/<name>.png."""
        path = ARTIFACTS / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)
        return path

    def assert_clean(self) -> None:
        """Nothing went wrong on the page and no request left the server."""
        assert not self.errors, "\n".join(self.errors)
        assert not self.outside, "\n".join(self.outside)


def _is_prompt(response: Response) -> bool:
    return response.url.endswith("/api/prompt") and response.request.method == "POST"
