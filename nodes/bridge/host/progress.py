"""Which part of a node runs, how far it is and how long it will take, as text in the node."""

import time
from collections.abc import Callable
from typing import Any

try:
    from server import PromptServer
except ImportError:  # in-process tests import the pack without a server
    PromptServer = None
from comfy_execution.utils import get_executing_context

INTERVAL = 0.25  # seconds between two texts
# Ours, because the page's own place for texts is emptied when a run ends.
TEXT_EVENT = "sa3_text"

Clock = Callable[[], float]


def send_text(text: str, node_id: str | None = None) -> None:
    """Show a text in a node.

    Args:
        text: lines.
        node_id: the node; None = the one that is being executed, if any.
    """
    send_event(TEXT_EVENT, {"text": text}, node_id)


def tell_running_node(text: str) -> None:
    """Show a sentence in the node that is being executed, one of the host's, in the host's way."""
    server: Any = getattr(PromptServer, "instance", None)
    context = get_executing_context()
    if server is not None and context is not None:
        server.send_progress_text(text, context.node_id)


def send_event(event: str, values: dict[str, Any], node_id: str | None = None) -> None:
    """Tell the page something about a node.

    Args:
        event: its name.
        values: what is told, beside the node.
        node_id: the node; None = the one that is being executed, if any.
    """
    server: Any = getattr(PromptServer, "instance", None)
    context = get_executing_context()
    node_id = node_id or (context.node_id if context else None)
    if server is not None and node_id is not None:
        server.send_sync(event, {"node": node_id, **values})


class Countdown:
    """Says "sampling: step 3 of 8, 12 s left", four times a second at most."""

    def __init__(
        self,
        part: str,
        unit: str,
        clock: Clock = time.monotonic,
        send: Callable[[str], None] = send_text,
    ) -> None:
        """Start counting.

        Args:
            part: what runs, e.g. "sampling".
            unit: what is counted, e.g. "step".
            clock: seconds.
            send: takes the text.
        """
        self._part, self._unit = part, unit
        self._clock, self._send = clock, send
        self._start = clock()
        self._first: tuple[int, float] | None = None
        self._said = float("-inf")

    def update(self, done: int, total: int) -> None:
        """Say how far it is. The end is always said."""
        now = self._clock()
        # The first one holds what is done once (moving weights, compiling): it says nothing
        # about the next.
        if self._first is None or done < self._first[0]:
            self._first = (done, now)
        if done >= total:
            took = now - self._start
            self._send(f"{self._part}: {total} {_plural(self._unit, total)} in {took:.1f} s")
        elif now - self._said >= INTERVAL:
            self._said = now
            self._send(
                f"{self._part}: {self._unit} {done} of {total}{self._left(done, total, now)}"
            )

    def _left(self, done: int, total: int, now: float) -> str:
        assert self._first is not None
        counted = done - self._first[0]
        if counted < 1:
            return ""
        return f", {duration((now - self._first[1]) / counted * (total - done))} left"


class Whole:
    """Says "window 2 of 5, sampling: 1 min 20 s left" of a work in several parts."""

    def __init__(
        self, clock: Clock = time.monotonic, send: Callable[[str], None] = send_text
    ) -> None:
        """Start counting; `clock` gives seconds, `send` takes the text."""
        self._clock, self._send = clock, send
        self._start, self._said = clock(), float("-inf")

    def update(self, part: str, share: float) -> None:
        """Say which part runs and, by the share of the whole that is done, how long is left."""
        now = self._clock()
        if now - self._said < INTERVAL:
            return
        self._said = now
        left = (now - self._start) / share * (1 - share) if share > 0 else 0.0
        self._send(f"{part}: {duration(left)} left" if left else part)


def _plural(unit: str, count: int) -> str:
    return unit if count == 1 else f"{unit}s"


def duration(seconds: float) -> str:
    """A rough duration: "3 s", "2 min 5 s", "1 h 4 min"."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
