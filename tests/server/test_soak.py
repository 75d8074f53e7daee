"""Long runs in a real server: memory stays where it is, however many prompts were queued."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers.client import ComfyClient, Graph, node
from tests.helpers.graphs import base_graph, sampler, saved
from tests.helpers.harness import ComfyServer, server_with_models

PROMPTS = ("warm analog synth pad", "rain on a tin roof", "", "fast drums, 174 BPM, dark")
COUNT, WARM_UP, COMPARED = 50, 10, 10
GROWTH = 0.02
TIMEOUT = 600.0


@pytest.fixture
def fresh_server(tmp_path: Path, tiny_s: Path) -> Iterator[ComfyServer]:
    """A server of its own: other tests' leftovers would hide growth, or look like it.

    Its cache is the one that holds the last prompt's results only. The default one keeps all of
    them, audio included, as long as the machine has memory, so that there every prompt adds some.
    """
    with server_with_models(tmp_path, {"tiny-s": tiny_s}, ("--cpu", "--cache-classic")) as server:
        yield server


def varied_graph(number: int) -> Graph:
    """Another seed, prompt, duration, step count and chunk length each time; also encodes."""
    graph = {
        **base_graph(seconds=2.0 + 2.5 * (number * 7 % 10)),
        "o": sampler(steps=2 + number % 3, seed=number, cfg=1.0 + number % 2, negative=["n", 0]),
        "od": node("SA3SAMEDecode", latent=["o", 0], vae=["m", 2], chunk=(0, 16)[number % 2]),
        "e": node("SA3SAMEEncode", audio=["od", 0], vae=["m", 2]),
        **saved("e", "e"),
    }
    graph["p"]["inputs"]["text"] = f"{PROMPTS[number % len(PROMPTS)]} {number}"
    return graph


def resident_after_each(server: ComfyServer, count: int) -> list[int]:
    """Queue all prompts at once and note the server's resident bytes whenever one has ended."""
    client, process = server.client, psutil.Process(server.pid)
    ids = [client.post("/prompt", {"prompt": varied_graph(i)})["prompt_id"] for i in range(count)]
    resident: list[int] = []
    deadline = time.monotonic() + TIMEOUT
    while len(resident) < count:
        assert time.monotonic() < deadline, f"{len(resident)} of {count} prompts in {TIMEOUT:g} s"
        ended = count - _left(client)
        resident += [process.memory_info().rss] * (ended - len(resident))
        time.sleep(0.02)
    statuses = {client.wait_for_history(i)["status"]["status_str"] for i in ids}
    assert statuses == {"success"}
    return resident


def _left(client: ComfyClient) -> int:
    return client.get("/prompt")["exec_info"]["queue_remaining"]


@pytest.mark.soak
@pytest.mark.server
def test_fifty_queued_prompts_leave_memory_flat(fresh_server):
    resident = resident_after_each(fresh_server, COUNT)
    # The first prompts load the model, import libraries on their first use and fill the C
    # library's heap and torch's thread pools up to the size that any prompt needs.
    early = statistics.median(resident[WARM_UP : WARM_UP + COMPARED])
    late = statistics.median(resident[-COMPARED:])
    listed = [round(r / 1e6) for r in resident]
    assert abs(late / early - 1) < GROWTH, f"MB after each prompt: {listed}"
