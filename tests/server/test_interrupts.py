"""Interrupting at any moment: what was in use is free again and the next prompt is right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor

from tests.helpers.client import Event, Graph, node
from tests.helpers.graphs import base_graph, results, sampler, saved
from tests.helpers.harness import ComfyServer, server_with_models

SECONDS = 60.0  # of audio: long enough that every stage can be caught while it runs
AUDIO_BYTES = 2 * 4 * SECONDS * 44100
Moment = Callable[[Event], bool]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_s: Path) -> Iterator[ComfyServer]:
    """A server of its own, so that its memory is that of these tests."""
    base = tmp_path_factory.mktemp("interrupts")
    with server_with_models(base, {"tiny-s": tiny_s}, ("--cpu", "--cache-none")) as server:
        yield server


def everything(seed: int = 7, steps: int = 20) -> Graph:
    """Load, encode text, sample, decode, encode the audio, decode that and save it as `xs`."""
    return {
        **base_graph(seconds=SECONDS),
        "o": sampler(seed=seed, steps=steps, cfg=2.0, negative=["n", 0]),
        "od": node("SA3SAMEDecode", latent=["o", 0], vae=["m", 2], chunk=16),
        "e": node("SA3SAMEEncode", audio=["od", 0], vae=["m", 2]),
        **saved("e", "x"),
    }


def starts(node_id: str) -> Moment:
    """When a node begins."""
    return lambda event: event.type == "executing" and event.data.get("node") == node_id


def reaches(node_id: str, share: float) -> Moment:
    """When a node's progress bar has come that far."""

    def reached(event: Event) -> bool:
        states = event.data.get("nodes", {}) if event.type == "progress_state" else {}
        state = states.get(node_id)
        return state is not None and state["max"] > 1 and state["value"] >= share * state["max"]

    return reached


MOMENTS = {
    "loading": ("m", starts("m")),
    "text encoding": ("p", starts("p")),
    "sampling starts": ("o", starts("o")),
    "first step": ("o", reaches("o", 0.01)),
    "half of the steps": ("o", reaches("o", 0.5)),
    "decoding starts": ("od", starts("od")),
    "half decoded": ("od", reaches("od", 0.5)),
    "encoding starts": ("e", starts("e")),
    "half encoded": ("e", reaches("e", 0.5)),
}


def resident(server: ComfyServer) -> float:
    return psutil.Process(server.pid).memory_info().rss


def unload(server: ComfyServer) -> float:
    """Ask the host to drop models and results, and return the bytes it then still has."""
    server.client.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(2.0)
    return resident(server)


@pytest.fixture(scope="module")
def undisturbed(server: ComfyServer) -> tuple[Tensor, float]:
    """What the graph gives when nothing stops it, and the bytes that the server then keeps."""
    # The second run meets a heap that is as large as it ever becomes; the first one makes it so.
    wave, again = (results(server.client, everything(), "xs")[0] for _ in range(2))
    assert torch.equal(wave, again)
    return wave, unload(server)


@pytest.mark.soak
@pytest.mark.server
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_frees_everything_and_the_next_prompt_is_right(server, undisturbed, moment):
    expected, kept = undisturbed
    where, condition = MOMENTS[moment]
    stopped = server.client.run(everything(seed=99), interrupt_when=condition)
    assert stopped.status == "interrupted"
    begun = [event.data.get("node") for event in stopped.events if event.type == "executing"]
    assert where in begun
    assert "xs" not in begun
    assert server.client.get("/queue") == {"queue_running": [], "queue_pending": []}
    # Less than one model (27 MB) or one piece of audio (21 MB) is left of the stopped prompt.
    assert unload(server) - kept < AUDIO_BYTES * 0.75
    (wave,) = results(server.client, everything(), "xs")
    assert torch.equal(wave, expected)
