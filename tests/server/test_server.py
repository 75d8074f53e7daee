"""The pack in a real ComfyUI server, and the harness that the other server tests stand on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.server.client import PromptRejectedError, node
from tests.server.harness import PACK_NAME
from tests.support import ROOT

PROMISED = {
    *("SA3LoadModel", "SA3LoadSAME", "SA3TextEncode", "SA3EmptyLatent", "SA3Sampler"),
    *("SA3Scheduler", "SA3SamplerSelect", "SA3SAMEEncode", "SA3SAMEDecode", "SA3SaveAudio"),
}


def ids_in_source() -> set[str]:
    """Node ids that the pack's own files declare."""
    files = (ROOT / "nodes").rglob("*.py")
    found = (re.findall(r'node_id="(\w+)"', path.read_text("utf-8")) for path in files)
    return {node_id for ids in found for node_id in ids}


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
