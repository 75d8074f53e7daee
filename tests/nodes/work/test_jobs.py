"""Job from Manifest: rows with the host's nets, as the command line makes them, resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.pieces import GenerateRequest
from sa3_core.pipeline import generate, load_pipeline
from sa3_core.sampling.settings import SampleSettings
from tests.helpers.editing_support import RATE, music
from tests.helpers.support import rel_l2

TABLE = "id,prompt,seconds,seed,steps,cfg,negative\na,pad,0.5,1,2,,\nb,bass,0.4,2,2,2,hiss\n"
LORA = Path(__file__).parents[2] / "golden" / "tiny-s" / "adapter_lora.safetensors"


@pytest.fixture
def place(comfyui):
    """The input folder; the output folder is emptied of jobs."""
    shutil.rmtree(comfyui / "output" / "jobs", ignore_errors=True)
    return comfyui / "input"


@pytest.fixture
def job(small, place):
    """job("text of the table") -> (AUDIOs, ids, sentences)."""
    node = small.module("nodes.jobs").SA3JobFromManifest

    def run(table, **inputs):
        (place / "m.csv").write_text(table)
        given = {"folder": "jobs", "format": "wav-32f", **inputs}
        out = node.execute(small.model, small.clip, small.vae, "m.csv", **given)
        return out.args[0], out.args[1], out.ui["text"]

    return run


@pytest.fixture
def refused(small, place):
    """refused("text of the table") -> what validation says."""
    node = small.module("nodes.jobs").SA3JobFromManifest

    def run(table, folder="jobs"):
        (place / "m.csv").write_text(table)
        return node.validate_inputs("m.csv", folder)

    return run


def test_rows_equal_the_core_and_come_as_a_list(job, comfyui, tiny_s):
    audio, ids, said = job(TABLE)
    assert ids == ["a", "b"]
    assert said[0] == "2 made, 0 kept, 0 failed; output/jobs/m"
    request = GenerateRequest(["bass"], ["hiss"], [0.4], SampleSettings(steps=2, cfg=2.0), [2])
    want = generate(load_pipeline(tiny_s, dtype=torch.float32), request).takes[0].audio
    assert audio[1]["sample_rate"] == RATE
    assert rel_l2(audio[1]["waveform"][0], want) < 5e-5
    lines = (comfyui / "output/jobs/m/manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["a.wav", "b.wav"]


def test_what_is_there_is_kept_and_what_has_changed_is_made(job, comfyui):
    first, _, _ = job(TABLE)
    again, _, said = job(TABLE)
    assert said[0].startswith("0 made, 2 kept")
    assert torch.equal(first[0]["waveform"], again[0]["waveform"])
    _, _, said = job(TABLE.replace("bass", "flute"))
    assert said[0].startswith("1 made, 1 kept")


def test_sources_loras_and_models_by_name(job, place, comfyui, tiny_s, small, request):
    source = music(0.5)
    write_audio(place / "s.wav", source["waveform"][0], RATE, FORMATS["wav-32f"])
    loras, models = (comfyui / "models" / name for name in ("loras", "stable_audio_3"))
    loras.mkdir(parents=True, exist_ok=True)
    shutil.copy(LORA, loras / "j.safetensors")
    small.module("nodes.bridge.host.folders").register_folder()
    shutil.copytree(tiny_s, models / "named")
    request.addfinalizer(lambda: shutil.rmtree(models / "named"))
    head = "id,prompt,seed,steps,seconds,inpaint_audio,region,continue_audio,add,extend_audio,"
    table = head + (
        "lora,model\n"
        "plain,x,1,2,0.5,,,,,,,\n"
        "lora,x,1,2,0.5,,,,,,j.safetensors,\n"
        "off,x,1,2,0.5,,,,,,j.safetensors:0,\n"
        "named,x,1,2,0.5,,,,,,,named\n"
        "inpaint,x,1,2,,s.wav,0.2-0.3,,,,,\n"
        "continue,x,1,2,,,,s.wav,0.3,,,\n"
        "extend,x,1,2,,,,,0.3,s.wav,,\n"
    )
    audio, ids, said = job(table)
    assert said[0].startswith("7 made"), said
    made = dict(zip(ids, (a["waveform"][0] for a in audio), strict=True))
    assert torch.equal(made["plain"], made["off"])
    assert rel_l2(made["named"], made["plain"]) < 1e-5
    assert rel_l2(made["lora"], made["plain"]) > 1e-3
    kept = source["waveform"][0]
    assert torch.equal(made["inpaint"][:, :4000], kept[:, :4000])
    assert not torch.equal(made["inpaint"], kept)
    for name in ("continue", "extend"):
        assert torch.equal(made[name][:, : kept.shape[-1]], kept)
        assert made[name].shape[-1] == kept.shape[-1] + round(0.3 * RATE)


def test_a_broken_row_stops_no_other(job, place):
    (place / "bad.wav").write_bytes(b"RIFF")
    table = "id,prompt,init_audio,seconds,steps\na,x,bad.wav,,2\nb,x,,0.5,2\n"
    audio, ids, said = job(table)
    assert (len(audio), ids) == (1, ["b"])
    assert said[0].startswith("1 made, 0 kept, 1 failed")
    assert said[1].startswith("a: ")
    with pytest.raises(Exception, match="None of the 1 rows could be made"):
        job("id,prompt,init_audio,steps\na,x,bad.wav,2\n")


def test_cancelling_stops_and_the_next_run_goes_on(job, mm, monkeypatch, comfyui, small):
    studio = small.module("nodes.bridge.work.job_studio")
    real, seen = studio.check_interrupted, []

    def cancel():
        seen.append(1)
        if (comfyui / "output/jobs/m/a.wav").exists():
            raise mm.InterruptProcessingException
        real()

    with monkeypatch.context() as patched:
        patched.setattr(studio, "check_interrupted", cancel)
        with pytest.raises(mm.InterruptProcessingException):
            job(TABLE)
    assert len(seen) > 2
    _, ids, said = job(TABLE)
    assert ids == ["a", "b"]
    assert said[0].startswith("1 made, 1 kept")


def test_faults_are_told_before_anything_is_loaded(refused, place, tmp_path):
    outside = tmp_path / "s.wav"
    outside.write_bytes(b"")
    table = (
        "id,prompt,seconds,lora,model,init_audio\na,x,long,,,\nb,x,1,no.safetensors,,\n"
        f"c,x,1,,none,\nd,x,,,,{outside}\n"
    )
    said = refused(table)
    for told in ("line 2, seconds", "line 3, lora", "line 4, model", "line 5, init_audio"):
        assert told in said
    assert "outside of ComfyUI's input, output and temp folders" in said
    assert refused(TABLE) is True
    assert "leads out of output" in refused(TABLE, "../x")


def test_another_graph_before_the_sockets_is_another_job(small):
    jobs = small.module("nodes.bridge.work.jobs")

    def mark(strength, node_id="7"):
        prompt = {
            "1": {"class_type": "SA3LoadModel", "inputs": {"model": "m"}},
            node_id: {"class_type": "Patch", "inputs": {"model": ["1", 0], "strength": strength}},
            "9": {"class_type": "SA3JobFromManifest", "inputs": {"model": [node_id, 0]}},
        }
        hidden = SimpleNamespace(prompt=prompt, unique_id="9")
        return jobs.Sockets(small.model, small.clip, small.vae, hidden).mark()

    assert mark(1.0) == mark(1.0, "8")
    assert mark(1.0) != mark(0.5)


def test_it_runs_again_while_rows_are_left(job, small, place):
    node = small.module("nodes.jobs").SA3JobFromManifest
    job(TABLE)
    done = node.fingerprint_inputs("m.csv", "jobs")
    assert done == node.fingerprint_inputs("m.csv", "jobs")
    (place / "m.csv").write_text(TABLE + "c,x,0.5,3,2,,\n")
    left = node.fingerprint_inputs("m.csv", "jobs")
    assert len({done, left, node.fingerprint_inputs("m.csv", "jobs")}) == 3


def test_batches_are_within_rounding_of_single_rows(job):
    single, _, _ = job(TABLE)
    several, _, _ = job(TABLE, folder="jobs/several", batch=0)
    for one, other in zip(single, several, strict=True):
        assert rel_l2(other["waveform"], one["waveform"]) < 5e-5
