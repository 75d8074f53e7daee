"""The pack in a real ComfyUI server, and the harness that the other server tests stand on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.helpers.client import Graph, PromptRejectedError, node
from tests.helpers.harness import PACK_NAME, ComfyServer
from tests.helpers.support import ROOT
from tests.tools.demo_set import GRAPH, fill_in

PROMISED = {
    *("SA3LoadModel", "SA3LoadSAME", "SA3TextEncode", "SA3EmptyLatent", "SA3Sampler"),
    *("SA3Scheduler", "SA3SamplerSelect", "SA3SAMEEncode", "SA3SAMEDecode", "SA3SaveAudio"),
}


def ids_in_source() -> set[str]:
    """Node ids that the pack's own files declare."""
    files = (ROOT / "nodes").rglob("*.py")
    found = (re.findall(r'node_id="(\w+)"', path.read_text("utf-8")) for path in files)
    return {node_id for ids in found for node_id in ids}


def text_to_audio(steps: int, seconds: float = 1.0) -> Graph:
    """The shipped graph on the tiny model."""
    changes = {
        ("SA3LoadModel", "model"): "tiny-s",
        ("SA3EmptyLatent", "seconds"): seconds,
        ("SA3Sampler", "steps"): steps,
    }
    return fill_in(json.loads(GRAPH.read_text("utf-8")), changes)


def id_of(graph: Graph, class_type: str) -> str:
    (node_id,) = (key for key, value in graph.items() if value["class_type"] == class_type)
    return node_id


@pytest.mark.smoke
def test_every_node_is_registered(comfy):
    assert not re.search(rf"IMPORT FAILED.*{PACK_NAME}", comfy.log()), comfy.log()
    info = comfy.client.object_info()
    module = f"custom_nodes.{PACK_NAME}"
    ours = {name for name, entry in info.items() if entry["python_module"] == module}
    assert ours == ids_in_source()
    assert ours >= PROMISED


@pytest.mark.smoke
def test_every_script_is_served_once(comfy):
    served = [path for path in comfy.client.get("/extensions") if PACK_NAME in path]
    scripts = {path.relative_to(ROOT / "js").as_posix() for path in (ROOT / "js").rglob("*.js")}
    assert sorted(served) == sorted(f"/extensions/{PACK_NAME}/{name}" for name in scripts)
    for path in served:
        assert comfy.client.status_of(path) == 200


@pytest.mark.smoke
def test_stock_audio_graph_runs_and_its_file_can_be_fetched(comfy):
    run = comfy.client.run(
        {
            "1": node("EmptyAudio", duration=0.25, sample_rate=44100, channels=2),
            "2": node("SaveAudio", audio=["1", 0], filename_prefix="stock/silence"),
        }
    )
    assert run.status == "success", run.error
    (saved,) = run.outputs["2"]["audio"]
    assert comfy.client.view(saved).startswith(b"fLaC")
    assert (comfy.base / "output" / "stock" / saved["filename"]).is_file()
    assert set(run.node_seconds()) == {"1", "2"}


def test_a_refused_graph_names_the_input(comfy):
    graph = {
        "1": node("EmptyAudio", duration=-1, sample_rate=44100, channels=2),
        "2": node("SaveAudio", audio=["1", 0], filename_prefix="x"),
    }
    with pytest.raises(PromptRejectedError) as refused:
        comfy.client.run(graph)
    assert "duration" in refused.value.messages()
    assert list(refused.value.node_errors) == ["1"]


def test_an_error_while_running_is_reported(comfy):
    graph = {
        "1": node("EmptyAudio", duration=0.1, sample_rate=44100, channels=2),
        "2": node("SaveAudio", audio=["1", 0], filename_prefix="../../outside"),
    }
    run = comfy.client.run(graph)
    assert run.status == "error"
    assert run.error["node_id"] == "2"
    assert not list(Path(comfy.base.parent).glob("outside*"))


@pytest.mark.smoke
def test_text_to_audio_runs_and_reports_its_steps(comfy):
    graph = text_to_audio(steps=3)
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    (saved,) = run.outputs[id_of(graph, "SA3SaveAudio")]["audio"]
    assert comfy.client.view(saved).startswith(b"fLaC")
    sampler = id_of(graph, "SA3Sampler")
    assert run.progress(sampler)[-1] == (3, 3)
    assert run.texts(sampler)


@pytest.mark.smoke
def test_sampling_can_be_interrupted_and_the_server_goes_on(comfy):
    graph = text_to_audio(steps=500, seconds=5.0)
    sampler = id_of(graph, "SA3Sampler")

    def is_sampling(event):
        if event.type != "progress_state":
            return False
        return event.data["nodes"].get(sampler, {}).get("value", 0) >= 2

    run = comfy.client.run(graph, interrupt_when=is_sampling)
    assert run.status == "interrupted"
    assert run.progress(sampler)[-1][0] < 400
    assert comfy.client.run(text_to_audio(steps=1)).status == "success"


def test_a_stopped_server_is_gone_and_says_so(comfy, tmp_path):
    server = ComfyServer(comfy.comfyui, tmp_path, ["--cpu", "--no-such-flag"])
    with pytest.raises(RuntimeError, match="no-such-flag"):
        server.start()
    server.stop()
    with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
        server.client.get("/system_stats")
