"""Job from Manifest in a real server: stock nodes take its list, a cancelled run goes on."""

from __future__ import annotations

import json

import pytest

from tests.helpers.client import PromptRejectedError, node

ROWS = 4


@pytest.fixture
def table(comfy):
    """table(text) writes the manifest."""
    path = comfy.base / "input" / "many.csv"
    yield path.write_text
    path.unlink(missing_ok=True)


def graph():
    sockets = {"model": ["m", 0], "clip": ["m", 1], "vae": ["m", 2]}
    return {
        "m": node("SA3LoadModel", model="tiny-s", precision="fp32"),
        "j": node("SA3JobFromManifest", **sockets, manifest="many.csv", folder="server_jobs"),
        "s": node("SaveAudio", audio=["j", 0], filename_prefix="server_jobs/stock"),  # a stock node
    }


def test_a_cancelled_job_goes_on_and_stock_nodes_take_its_list(comfy, table):
    rows = [f"r{n},sound {n},0.5,{n},20" for n in range(ROWS)]
    table("\n".join(["id,prompt,seconds,seed,steps", *rows]) + "\n")
    folder = comfy.base / "output" / "server_jobs" / "many"

    def second_row(event):
        return event.type == "progress_state" and (folder / "r0.flac").exists()

    stopped = comfy.client.run(graph(), interrupt_when=second_row)
    assert stopped.status == "interrupted"
    there = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.flac")}
    assert 1 <= len(there) < ROWS
    run = comfy.client.run(graph())
    assert run.status == "success", run.error
    told = f"{ROWS - len(there)} made, {len(there)} kept, 0 failed; output/server_jobs/many"
    assert run.outputs["j"]["text"][0] == told
    assert all((folder / name).stat().st_mtime_ns == at for name, at in there.items())
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").open()]
    assert [line["id"] for line in lines] == [f"r{n}" for n in range(ROWS)]
    assert len(run.outputs["s"]["audio"]) == ROWS
    done = [share for share, whole in run.progress("j") if whole > 1]
    assert done == sorted(done)
    assert len(done) > ROWS  # one bar over all rows that were left
    assert max(done) == (ROWS - len(there)) * 1000


def test_every_fault_is_told_when_the_graph_is_queued(comfy, table):
    table("id,prompt,seconds,sampler\na,x,long,\nb,x,1,magic\n")
    with pytest.raises(PromptRejectedError) as refused:
        comfy.client.run(graph())
    assert "line 2, seconds" in refused.value.messages()
    assert "line 3, sampler" in refused.value.messages()
