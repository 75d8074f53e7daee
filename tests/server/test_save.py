"""Save Audio in a real server: formats, names, batches, metadata; interruption and progress."""

from __future__ import annotations

import json
from datetime import datetime
from io import BytesIO

import av
import pytest
import torch

from tests.helpers.client import PromptRejectedError, node
from tests.helpers.graphs import base_graph, read, sampler, saved
from tests.helpers.harness import ComfyServer
from tests.helpers.sounds import carried_tags

WORKFLOW = {"nodes": [], "links": [], "extra": {"note": "é ü"}, "version": 0.4}
FORMATS = {
    "flac-16": ("flac", 16),
    "flac-24": ("flac", 24),
    "wav-16": ("pcm_s16le", 16),
    "wav-24": ("pcm_s24le", 24),
    "wav-32f": ("pcm_f32le", 32),
    "mp3-V0": ("mp3", 0),
    "opus-128k": ("opus", 0),
    "m4a-192k": ("aac", 0),
}


def tags_of(client, file):
    with av.open(BytesIO(client.view(file))) as container:
        stream = container.streams.audio[0]
        tags = {**container.metadata, **stream.metadata}
        return {k.lower(): v for k, v in tags.items()}, stream.codec_context.name


@pytest.fixture(scope="module")
def generated(comfy):
    """A two-item batch of unequal lengths, saved in every format in one run."""
    graph = base_graph(durations="1, 1.5")
    graph["o"] = sampler(steps=2)
    graph["d"] = node("SA3SAMEDecode", latent=["o", 0], vae=["m", 2])
    for name in FORMATS:
        graph[name] = node(
            "SA3SaveAudio", audio=["d", 0], filename_prefix=f"formats/{name}", format=name
        )
    run = comfy.client.run(graph, workflow=WORKFLOW)
    assert run.status == "success", run.error
    return graph, run


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_trimmed_numbered_and_carries_the_graph(comfy, generated, name):
    graph, run = generated
    files = run.outputs[name]["audio"]
    assert len(files) == 2
    suffix = name.split("-")[0]
    assert [f["filename"] for f in files] == [f"{name}_0000{i}.{suffix}" for i in (1, 2)]
    exact = not name.startswith(("mp3", "opus", "m4a"))
    for index, seconds in enumerate((1.0, 1.5)):
        samples = read(comfy.client, run, name, index).shape[-1]
        rate = 48000 if suffix == "opus" else 44100
        assert abs(samples - int(seconds * rate)) <= (0 if exact else rate // 10)
    tags, codec = tags_of(comfy.client, files[0])
    assert codec.removeprefix("lib").startswith(FORMATS[name][0].removeprefix("lib")[:3])
    if suffix in ("wav", "m4a"):
        tags = carried_tags(comfy.client.view(files[0]))
    prompt = json.loads(tags["prompt"])
    assert str(comfy.base) not in tags["prompt"]
    assert {key: entry["inputs"] for key, entry in prompt.items()} == {
        key: entry["inputs"] for key, entry in graph.items()
    }
    assert json.loads(tags["workflow"]) == WORKFLOW
    assert not list((comfy.base / "output/formats").glob("*.json"))


def test_integer_formats_hold_the_float_samples(comfy, generated):
    _, run = generated
    exact = read(comfy.client, run, "wav-32f").clamp(-1, 1)
    for name, bits in (("flac-24", 24), ("wav-16", 16)):
        raw = read(comfy.client, run, name).double()
        scale = raw.abs().max() / exact.abs().max()
        whole = 2 ** (31 if bits == 24 else 15)
        assert abs(float(scale) / whole - 1) < 1e-3
        assert float((raw / whole - exact.double()).abs().max()) < 2.0 ** (1 - bits)


def test_the_node_tells_the_peak(generated):
    _, run = generated
    notes = run.outputs["flac-24"]["text"]
    assert len(notes) == 2
    assert all("peak" in note for note in notes)


def test_nothing_is_overwritten(comfy):
    graph = base_graph(seconds=1.0)
    graph["o"] = sampler(steps=1)
    graph |= saved("o", "o")
    names = []
    for prefix in ("again/a", "again/a", "again/%batch_num%-b", "again/%batch_num%-b"):
        graph["os"]["inputs"]["filename_prefix"] = prefix
        graph["os"]["inputs"]["format"] = "wav-16"
        graph["o"]["inputs"]["seed"] = len(names)
        run = comfy.client.run(graph)
        assert run.status == "success", run.error
        names.append(run.outputs["os"]["audio"][0]["filename"])
    assert names == ["a_00001.wav", "a_00002.wav", "0-b_00001.wav", "0-b_00002.wav"]


def test_interrupting_stops_and_the_next_run_is_right(comfy):
    graph = {**base_graph(seconds=2.0), "o": sampler(steps=4), **saved("o", "o")}
    before = comfy.client.run(graph)
    long = {**base_graph(seconds=100.0), "o": sampler(steps=500, seed=99), **saved("o", "x")}

    def started(event):
        states = event.data.get("nodes", {}) if event.type == "progress_state" else {}
        return states.get("o", {}).get("value", 0) >= 3

    run = comfy.client.run(long, interrupt_when=started)
    assert run.status == "interrupted"
    graph["o"]["inputs"]["seed"] = 8
    other = comfy.client.run(graph)
    graph["o"]["inputs"]["seed"] = 7
    graph["os"]["inputs"]["filename_prefix"] = "t/after"
    after = comfy.client.run(graph)
    first, second = read(comfy.client, before, "os"), read(comfy.client, after, "os")
    assert torch.equal(first, second)
    assert not torch.equal(first, read(comfy.client, other, "os"))


def test_progress_per_step_and_per_chunk(comfy):
    graph = {**base_graph(seconds=4.0), "o": sampler(steps=5, seed=11)}
    graph |= saved("o", "o", chunk=32)
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    steps = [value for value, top in run.progress("o") if top == 5]
    assert steps[-1] == 5
    chunks = run.progress("od")
    assert chunks[-1][0] == chunks[-1][1]
    assert chunks[-1][1] > 1


def test_chunks_equal_the_whole(comfy):
    for model in ("tiny-s", "tiny-m"):
        graph = {**base_graph(model, seconds=5.3), "o": sampler(steps=1)}
        graph |= saved("o", "w") | saved("o", "c", chunk=33)
        run = comfy.client.run(graph)
        assert run.status == "success", run.error
        whole, chunked = read(comfy.client, run, "ws"), read(comfy.client, run, "cs")
        assert whole.shape[-1] == int(5.3 * 44100)
        assert float((whole - chunked).norm() / whole.norm()) < 5e-5


def test_decoder_noise_follows_its_own_seed(comfy):
    graph = {**base_graph(seconds=1.0), "o": sampler(steps=1)}
    graph |= saved("o", "a") | saved("o", "b", decoder_noise=True, noise_seed=1)
    graph |= saved("o", "c", decoder_noise=True, noise_seed=1, chunk=32)
    graph |= saved("o", "d", decoder_noise=True, noise_seed=2)
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    a, b, c, d = (read(comfy.client, run, f"{n}s") for n in "abcd")
    assert not torch.equal(a, b)
    assert float((b - c).norm() / b.norm()) < 5e-5
    assert not torch.equal(b, d)


def test_advice_is_shown(comfy):
    graph = base_graph()
    graph["m"]["inputs"]["objective"] = "rectified_flow"
    graph["o"] = sampler(negative=["n", 0], steps=8, cfg=1.0)
    run = comfy.client.run(graph | saved("o", "o"))
    assert run.status == "success", run.error
    text = " ".join(run.outputs["o"]["text"])
    assert "no effect" in text
    assert "cfg 7" in text
    assert "more than 8 steps" in text
    assert run.texts("o")[-1].startswith("euler, 8 steps, cfg 1")
    assert "rectified_flow (from chosen)" in run.outputs["m"]["text"][0]


def test_disable_metadata(comfy, tiny_s, tmp_path):
    server = ComfyServer(
        comfy.comfyui,
        tmp_path / "plain",
        flags=("--cpu", "--disable-metadata"),
        env={"HF_HUB_OFFLINE": "1"},
    )
    with server:
        graph = {
            "a": node("EmptyAudio", duration=0.5, sample_rate=44100, channels=1),
            "f": node("SA3SaveAudio", audio=["a", 0], format="flac-16"),
            "w": node("SA3SaveAudio", audio=["a", 0], format="wav-16"),
        }
        run = server.client.run(graph, workflow=WORKFLOW)
        assert run.status == "success", run.error
        tags, _ = tags_of(server.client, run.outputs["f"]["audio"][0])
        assert "prompt" not in tags
        assert "workflow" not in tags
        assert not list((server.base / "output").rglob("*.json"))


def test_tokens_of_callers_without_a_page(comfy):
    graph = {**base_graph(seconds=1.0), "o": sampler(steps=1, seed=31), **saved("o", "o")}
    graph["o"]["_meta"] = {"title": "My take"}
    graph["os"]["inputs"]["filename_prefix"] = "%My take.seed%/%date:yyyy%-%SA3Sampler.seed%"
    graph["kept"] = node("SA3SaveLatents", latent=["o", 0], filename_prefix="%SA3Sampler.seed%/l")
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    (file,) = run.outputs["os"]["audio"]
    assert file["subfolder"] == "31"
    assert file["filename"] == f"{datetime.now().year}-31_00001.wav"
    assert run.outputs["kept"]["latents"] == ["31/l_00001.safetensors [output]"]


@pytest.mark.parametrize("prefix", ["", ".", "a:b", "x" * 280, "nul/a", "a\0b"])
def test_a_prefix_that_is_no_name_is_refused_when_queued(comfy, prefix):
    graph = {**base_graph(seconds=1.0), "o": sampler(steps=1), **saved("o", "o")}
    graph["os"]["inputs"]["filename_prefix"] = prefix
    with pytest.raises(PromptRejectedError) as refused:
        comfy.client.run(graph)
    (error,) = refused.value.node_errors["os"]["errors"]
    assert error["extra_info"]["input_name"] == "filename_prefix"
    assert error["details"].startswith("filename_prefix - filename_prefix ")


def test_a_random_seed_is_drawn_anew_and_saved(comfy):
    graph = base_graph(seconds=1.0)
    graph["o"] = sampler(steps=1, seed=-1)
    graph |= saved("o", "o")
    graph["os"]["inputs"]["format"] = "flac-24"
    seeds = []
    for _ in range(2):
        run = comfy.client.run(graph)
        assert run.status == "success", run.error
        tags, _ = tags_of(comfy.client, run.outputs["os"]["audio"][0])
        seeds.append(json.loads(tags["prompt"])["o"]["inputs"]["seed"])
        assert f"seed {seeds[-1]} was drawn" in "\n".join(run.outputs["o"]["text"])
    assert seeds[0] != seeds[1]
    assert -1 not in seeds
