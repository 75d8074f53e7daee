"""Listening in a real server: pictures, takes, loudness, previews and texts while sampling."""

from __future__ import annotations

import json
import struct
from io import BytesIO
from typing import Any

import aiohttp
import pytest
from PIL import Image

from sa3_core.audio.loudness import integrated
from tests.helpers.client import node
from tests.helpers.graphs import base_graph, read, sampler, saved
from tests.helpers.loops import finish

PREVIEWS = (1, 4)  # server.py BinaryEventTypes.PREVIEW_IMAGE and PREVIEW_IMAGE_WITH_METADATA


def test_one_graph_looks_compares_and_saves_at_a_loudness(comfy):
    graph = {**base_graph(seconds=2.0), "o": sampler(steps=2), "x": sampler(steps=2, seed=8)}
    graph |= saved("o", "o") | saved("x", "x")
    graph["k"] = node("SA3LookAudio", audio=["od", 0], save_png=True, filename_prefix="t/look")
    graph["i"] = node("PreviewImage", images=["k", 1])
    graph["c"] = node("SA3CompareAudio", a=["od", 0], b=["xd", 0])
    graph["s"] = node("SA3SaveAudio", audio=["od", 0], format="wav-32f", loudness_lufs=-25.0)
    graph["b"] = node("SA3PromptBuilder", genre="Ambient", bpm=90)
    graph["p"]["inputs"]["text"] = ["b", 0]
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    picture = Image.open(BytesIO(comfy.client.view(run.outputs["k"]["images"][0])))
    assert json.loads(picture.text["prompt"])["k"]["class_type"] == "SA3LookAudio"
    assert "LUFS" in run.outputs["k"]["text"][0]
    takes = run.outputs["c"]["sa3_takes"]
    assert [take["label"] for take in takes] == ["A", "B"]
    for take in takes:
        assert comfy.client.view(take).startswith(b"fLaC")
    assert integrated(read(comfy.client, run, "s"), 44100) == pytest.approx(-25.0, abs=0.1)
    assert run.texts("b") == ["TrackType: Music, VocalType: Instrumental, Genre: Ambient. 90 BPM."]
    texts = run.texts("o")
    assert texts[0] == "loading the model"
    assert any(text.startswith("sampling: ") for text in texts)
    assert run.texts("od")[-1].startswith("decoding: ")


def test_measures_go_to_stock_nodes_and_into_the_message(comfy):
    graph = {**base_graph(seconds=2.0), "o": sampler(steps=2)}
    graph |= saved("o", "o")
    graph["mm"] = node("SA3MeasureAudio", audio=["od", 0], prompt="pad, 90 BPM", seconds=2.5)
    graph["mt"] = node("PreviewAny", source=["mm", 1])
    graph["ml"] = node("PreviewAny", source=["mm", 2])
    graph["mn"] = node("PreviewAny", source=["mm", 3])
    graph["mi"] = node("PreviewImage", images=["mm", 7])
    graph["ma"] = node("PreviewAudio", audio=["mm", 0])
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    values = json.loads(run.outputs["ml"]["text"][0])
    assert values["duration_error"] == pytest.approx(-0.5, abs=1e-3)
    assert values["lufs"] == pytest.approx(float(run.outputs["mn"]["text"][0]), abs=1e-6)
    assert run.outputs["mt"]["text"][0].startswith("1 clips, 2.0 s")
    picture = comfy.client.view(run.outputs["mm"]["images"][0])
    assert Image.open(BytesIO(picture)).width > 300
    assert len(run.outputs["mi"]["images"]) == 1
    assert run.outputs["mm"]["text"] == run.texts("mm")
    assert run.texts("mm")[0].startswith("2.00 s, -0.50 s against what was asked")


async def _previews(url: str, graph: dict[str, Any], method: str) -> int:
    """How many preview images a run sends."""
    async with (
        aiohttp.ClientSession(url) as session,
        session.ws_connect("/ws?clientId=previews", max_msg_size=0) as socket,
    ):
        body = {"prompt": graph, "client_id": "previews", "extra_data": {"preview_method": method}}
        async with session.post("/prompt", json=body) as response:
            assert response.status == 200, await response.text()
        count = 0
        async for message in socket:
            if message.type == aiohttp.WSMsgType.BINARY:
                count += struct.unpack_from(">I", message.data)[0] in PREVIEWS
            elif json.loads(message.data)["type"] in ("execution_success", "execution_error"):
                return count
        raise ConnectionError("the server closed its websocket")


def test_previews_follow_the_hosts_setting_and_the_nodes(comfy):
    def count(method: str, seed: int, **inputs: Any) -> int:
        graph = {**base_graph(), "o": sampler(steps=4, seed=seed, **inputs)}
        graph |= saved("o", "o")
        work = _previews(comfy.client.url, graph, method)
        return finish(work, 120)

    assert 1 <= count("auto", 101) <= 4
    assert count("none", 102) == 0
    assert count("auto", 103, live_preview=False) == 0
