"""A small client of ComfyUI's HTTP and websocket API: post a graph, watch it run, fetch files."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.helpers.loops import finish

Graph = dict[str, dict[str, Any]]  # a workflow in API format: node id -> class_type, inputs
ENDS = {
    "execution_success": "success",
    "execution_error": "error",
    "execution_interrupted": "interrupted",
}
TEXT_EVENT = "sa3_text"  # {"node": ..., "text": ...}


@dataclass(frozen=True)
class Event:
    """One message of the server."""

    type: str
    data: dict[str, Any]
    at: float  # seconds since the graph was posted


@dataclass
class Run:
    """What became of one posted graph."""

    prompt_id: str
    status: str = "running"  # success | error | interrupted
    events: list[Event] = field(default_factory=list)
    history: dict[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> dict[str, Any]:
        """UI outputs by node id, such as outputs["4"]["audio"][0]["filename"]."""
        return self.history.get("outputs", {})

    @property
    def error(self) -> dict[str, Any]:
        """Data of the execution error (exception_message, node_id, node_type), or empty."""
        return next((e.data for e in self.events if e.type == "execution_error"), {})

    def texts(self, node_id: str) -> list[str]:
        """Texts that a node of ours sent, in order."""
        texts = (e.data for e in self.events if e.type == TEXT_EVENT)
        return [data["text"] for data in texts if data["node"] == node_id]

    def progress(self, node_id: str) -> list[tuple[float, float]]:
        """(value, max) pairs a node reported, in order."""
        states = (e.data["nodes"].get(node_id) for e in self.events if e.type == "progress_state")
        return [(state["value"], state["max"]) for state in states if state]

    def node_seconds(self) -> dict[str, float]:
        """How long each node ran; nodes taken from the cache are absent."""
        moves = [(e.data["node"], e.at) for e in self.events if e.type == "executing"]
        ends = [at for _, at in moves[1:]] + [self.events[-1].at]
        seconds: dict[str, float] = {}
        for (node, at), end in zip(moves, ends, strict=True):
            if node is not None:
                seconds[node] = seconds.get(node, 0.0) + end - at
        return seconds


class PromptRejectedError(Exception):
    """The server refused the graph (HTTP 400); `node_errors` says which inputs it disliked."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.error: dict[str, Any] = body.get("error", {})
        self.node_errors: dict[str, Any] = body.get("node_errors", {})
        super().__init__(json.dumps(body))

    def messages(self) -> str:
        """All messages and details as one text."""
        errors = [e for node in self.node_errors.values() for e in node["errors"]]
        return "\n".join(f"{e['message']}: {e['details']}" for e in [self.error, *errors])


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """One node of an API graph; links are [node_id, output_index]."""
    return {"class_type": class_type, "inputs": inputs}


class ComfyClient:
    """Talks to one ComfyUI server. Blocking: websockets live in a worker thread."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> Any:
        """GET a JSON answer."""
        return json.loads(self.get_bytes(path))

    def get_bytes(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as response:
            return response.read()

    def status_of(self, path: str) -> int:
        """HTTP status of a GET."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """POST JSON; the answer as JSON, or None where it is empty."""
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = response.read()
        return json.loads(answer) if answer else None

    def object_info(self) -> dict[str, Any]:
        return self.get("/object_info")

    def view(self, saved: dict[str, str]) -> bytes:
        """Contents of a file as outputs name it: filename, subfolder, type."""
        query = urllib.parse.urlencode({k: saved[k] for k in ("filename", "subfolder", "type")})
        return self.get_bytes(f"/view?{query}")

    def interrupt(self, prompt_id: str | None = None) -> None:
        self.post("/interrupt", {"prompt_id": prompt_id} if prompt_id else {})

    def forget_results(self) -> None:
        """Make the server drop its models and cached results; on return it has.

        The answer to /free says nothing: the worker looks for the request when it is woken or has
        run a prompt, and one that it was too busy to be woken by waits until after the next prompt,
        which is then still served from the cache. So a small prompt is run here.
        """
        self.post("/free", {"unload_models": True, "free_memory": True})
        self.run({"any": node("PreviewAny", source="")})

    def wait_for_history(self, prompt_id: str, timeout: float = 10.0) -> dict[str, Any]:
        """The history entry; the server writes it a little after it reports success."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            time.sleep(0.05)
        raise TimeoutError(f"no history of prompt {prompt_id} after {timeout:g} s")

    def run(
        self,
        graph: Graph,
        *,
        workflow: dict[str, Any] | None = None,
        timeout: float = 120.0,
        on_event: Callable[[Event], None] | None = None,
        interrupt_when: Callable[[Event], bool] | None = None,
    ) -> Run:
        """Post a graph and wait until it ends.

        Args:
            graph: the workflow in API format.
            workflow: the same in UI format, for nodes that write it into files.
            timeout: seconds to wait for the end.
            on_event: called with each event as it comes.
            interrupt_when: interrupts the run at the first event it accepts.

        Raises:
            PromptRejectedError: the server refused the graph.
            TimeoutError: it did not end in time; it is interrupted then.
        """
        work = self._run(graph, workflow, timeout, on_event, interrupt_when)
        run = finish(work)
        run.history = self.wait_for_history(run.prompt_id)
        return run

    async def _run(
        self,
        graph: Graph,
        workflow: dict[str, Any] | None,
        timeout: float,
        on_event: Callable[[Event], None] | None,
        interrupt_when: Callable[[Event], bool] | None,
    ) -> Run:
        client_id = uuid.uuid4().hex
        body: dict[str, Any] = {"prompt": graph, "client_id": client_id}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        async with (
            aiohttp.ClientSession(self.url) as session,
            session.ws_connect(f"/ws?clientId={client_id}", max_msg_size=0) as socket,
        ):
            start = time.monotonic()
            async with session.post("/prompt", json=body) as response:
                answer = await response.json()
                if response.status != 200:
                    raise PromptRejectedError(answer)
            run = Run(answer["prompt_id"])
            try:
                while run.status == "running":
                    left = start + timeout - time.monotonic()
                    event = await _next_event(socket, start, left)
                    if event is None or event.data.get("prompt_id", run.prompt_id) != run.prompt_id:
                        continue
                    run.events.append(event)
                    run.status = ENDS.get(event.type, "running")
                    if on_event:
                        on_event(event)
                    if interrupt_when and interrupt_when(event):
                        interrupt_when = None
                        await session.post("/interrupt", json={"prompt_id": run.prompt_id})
            except asyncio.TimeoutError:
                raise TimeoutError(_unfinished(run, timeout)) from None
            finally:
                if run.status == "running":  # do not leave it to those who come after
                    await session.post("/interrupt", json={"prompt_id": run.prompt_id})
            return run


async def _next_event(
    socket: aiohttp.ClientWebSocketResponse, start: float, left: float
) -> Event | None:
    """Wait for a message.

    Raises:
        asyncio.TimeoutError: none came in time.
    """
    message = await asyncio.wait_for(socket.receive(), max(left, 0.01))
    return _event(message, time.monotonic() - start)


def _event(message: aiohttp.WSMessage, at: float) -> Event | None:
    """Decode a websocket message; None for previews and other binary ones."""
    if message.type == aiohttp.WSMsgType.TEXT:
        content = json.loads(message.data)
        return Event(content["type"], content.get("data") or {}, at)
    if message.type == aiohttp.WSMsgType.BINARY:
        return None
    raise ConnectionError("the server closed its websocket; see its log")


def _unfinished(run: Run, timeout: float) -> str:
    last = run.events[-1] if run.events else None
    return f"prompt {run.prompt_id} did not end within {timeout:g} s; last event: {last}"
