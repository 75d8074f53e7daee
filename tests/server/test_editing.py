"""The editing example workflows in a real server: lengths, kept samples, seams, single runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sa3_core.audio.file import read_audio, write_audio
from sa3_core.audio.formats import FORMATS
from tests.helpers.client import PromptRejectedError, node
from tests.helpers.editing_support import music, seam_step, seam_steps
from tests.helpers.graphs import base_graph, failure, sampler, saved
from tests.helpers.support import ROOT, rel_l2
from tests.tools.demo_set import fill_in

EXAMPLES = ROOT / "example_workflows" / "api"
SOURCE = "sa3_source.flac"
RATE, SECONDS = 44100, 10.0
FADE = round(0.02 * RATE)
MODEL = {("SA3LoadModel", "model"): "tiny-s", ("SA3LoadModel", "precision"): "fp32"}


@pytest.fixture(scope="module")
def source(comfy):
    """The examples' source file in the server's input folder: [2, N] as it is read back."""
    path = comfy.base / "input" / SOURCE
    write_audio(path, music(SECONDS)["waveform"][0], RATE, FORMATS["flac-16"])
    return read_audio(path)[0]


def example(comfy, name, **settings):
    """Run an example with the tiny model and SA3 Sampler's autos: its saved files and its run."""
    graph = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    changed = {tuple(key.split("__")): value for key, value in settings.items()}
    run = comfy.client.run(fill_in(graph, {**MODEL, **changed}))
    assert run.status == "success", run.error.get("exception_message", run.error)
    (saver,) = (key for key, entry in graph.items() if entry["class_type"] == "SA3SaveAudio")
    folder = Path(comfy.base) / "output"
    files = [folder / f["subfolder"] / f["filename"] for f in run.outputs[saver]["audio"]]
    read = [read_audio(path) for path in files]
    assert {rate for _, rate in read} == {RATE}
    return [wave for wave, _ in read], run


def check_edit(wave, source, spans):
    """Kept samples are equal, spans (in samples) are not, and no seam steps out."""
    kept = torch.ones(wave.shape[-1], dtype=torch.bool)
    largest = float(source.diff(dim=-1).abs().max())
    for first, last in spans:
        kept[first:last] = False
        inside = slice(first + FADE, last - FADE)
        assert (wave[:, inside] - source[:, inside]).std() > 0.01
    assert torch.equal(wave[:, kept], source[:, kept])
    for at in {edge for span in spans for edge in span if 0 < edge < wave.shape[-1]}:
        step, beside = seam_steps(wave, at)
        assert step <= min(beside, largest)


@pytest.mark.smoke
def test_inpaint_one_region(comfy, source):
    (wave,), run = example(comfy, "inpaint_one_region")
    assert wave.shape == source.shape
    check_edit(wave, source, [(4 * RATE, 8 * RATE)])
    assert run.outputs["5"]["images"][0]["type"] == "temp"
    assert comfy.client.view(run.outputs["5"]["images"][0]).startswith(b"\x89PNG")
    assert "made anew 3.994-8.081 s of 10 s" in run.texts("5")[-1]
    assert "put back" in run.texts("7")[-1]


def test_inpaint_several_regions(comfy, source):
    (wave,), _ = example(comfy, "inpaint_several_regions")
    assert wave.shape == source.shape
    regions = [(1, 2.5), (4, 7.2), (9, 10)]  # bar 3 at 120 BPM is 4-6 s and touches 6-7.2 s
    check_edit(wave, source, [(round(a * RATE), round(b * RATE)) for a, b in regions])


def test_audio_to_audio(comfy, source):
    (wave,), _ = example(comfy, "audio_to_audio")
    assert wave.shape == source.shape
    assert rel_l2(wave, source) > 0.1
    (near,), _ = example(comfy, "audio_to_audio", SA3Sampler__denoise=0.0)
    assert rel_l2(near, source) < rel_l2(wave, source)


def test_continue_audio(comfy, source):
    (wave,), _ = example(comfy, "continue_audio", SA3ContinueAudio__seconds=2.5)
    samples = source.shape[-1]
    assert wave.shape[-1] == samples + round(2.5 * RATE)
    assert torch.equal(wave[:, :samples], source)
    assert wave[:, samples:].std() > 0.01
    step, beside = seam_steps(wave, samples)
    assert step <= beside


SHORT = {
    "SA3ExtendAudio__seconds": 6.0,
    "SA3ExtendAudio__context_seconds": 2.0,
    "SA3ExtendAudio__overlap_seconds": 0.3,
    "SA3ExtendAudio__window_seconds": 4.0,
}


def test_extend_long(comfy, source):
    (wave,), run = example(comfy, "extend_long", **SHORT)
    samples = source.shape[-1]
    assert wave.shape[-1] == samples + 6 * RATE
    assert torch.equal(wave[:, :samples], source)
    assert "in 4 windows" in run.texts("4")[-1]
    progress = [value for value, _ in run.progress("4")]
    assert progress == sorted(progress)
    assert {most for _, most in run.progress("4") if most > 1} == {4000}
    for seam in range(4):
        step, beside = seam_steps(wave, samples + round(seam * 1.5 * RATE))
        assert step <= beside


def test_extending_can_be_interrupted(comfy, source):
    graph = json.loads((EXAMPLES / "extend_long.json").read_text(encoding="utf-8"))
    settings = {tuple(key.split("__")): value for key, value in SHORT.items()}
    settings[("SA3ExtendAudio", "seed")] = 99

    def is_working(event):
        state = event.data.get("nodes", {}) if event.type == "progress_state" else {}
        return state.get("4", {}).get("value", 0) > 0

    run = comfy.client.run(fill_in(graph, {**MODEL, **settings}), interrupt_when=is_working)
    assert run.status == "interrupted"
    assert 0 < run.progress("4")[-1][0] < 4000


def test_loop(comfy, source):
    (wave,), _ = example(comfy, "loop")
    assert wave.shape[-1] == 8 * RATE
    kept = slice(RATE, 7 * RATE)
    assert torch.equal(wave[:, kept], source[:, kept])
    step, beside = seam_step(wave)
    assert step <= beside
    cut, around = seam_step(source[:, : 8 * RATE])
    assert cut > around  # as it was, it clicked


def test_batch_of_prompts(comfy):
    takes, _ = example(comfy, "batch_of_prompts", SA3EmptyLatent__durations="2, 1.25, 0:03")
    assert [take.shape[-1] for take in takes] == [2 * RATE, int(1.25 * RATE), 3 * RATE]
    graph = json.loads((EXAMPLES / "batch_of_prompts.json").read_text(encoding="utf-8"))
    prompts = graph["2"]["inputs"]["text"].splitlines()
    (single,), _ = example(
        comfy,
        "batch_of_prompts",
        SA3EmptyLatent__durations="1.25",
        SA3TextEncode__text=prompts[1],
        SA3Sampler__seeds="21",
    )
    assert rel_l2(takes[1], single) <= 1e-4


def test_regions_come_through_links_too(comfy, source):
    graph = {
        **base_graph(),
        "a": node("LoadAudio", audio=SOURCE),
        "t": node("PrimitiveString", value="1-2"),
        "i": node("SA3InpaintMask", audio=["a", 0], vae=["m", 2], regions=["t", 0]),
        "j": node("SA3InpaintMask", audio=["a", 0], vae=["m", 2], region_list=["i", 1]),
        "v": node("PreviewAny", source=["i", 1]),
    }
    for name in "ij":
        graph[f"k{name}"] = sampler(latent=[name, 0])
        graph |= saved(f"k{name}", name)
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    assert run.outputs["i"]["text"] == run.outputs["j"]["text"]
    assert "asked for 1.000-2.000 s" in run.texts("j")[-1]


def test_regions_and_files_are_refused_before_anything_runs(comfy, source):
    graph = json.loads((EXAMPLES / "inpaint_one_region.json").read_text(encoding="utf-8"))
    for regions, message in (("8-4", "reversed"), ("4-4", "empty"), ("nan-2", "cannot be read")):
        bad = fill_in(graph, {**MODEL, ("SA3InpaintMask", "regions"): regions})
        with pytest.raises(PromptRejectedError) as refused:
            comfy.client.run(bad)
        assert message in refused.value.messages()
    past = fill_in(graph, {**MODEL, ("SA3InpaintMask", "regions"): "12-14"})
    assert "continue the audio" in failure(comfy.client, past)
    load = {"1": node("SA3LoadLatents", file="none.npy"), "2": node("PreviewAny", source=["1", 0])}
    with pytest.raises(PromptRejectedError) as refused:
        comfy.client.run(load)
    assert "is not there" in refused.value.messages()


def test_a_saved_take_decodes_to_the_same_audio(comfy):
    graph = {**base_graph(seconds=1.0), "k": sampler(), **saved("k")}
    graph["w"] = node("SA3SaveLatents", latent=["k", 0], filename_prefix="latents/server")
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    (file,) = run.outputs["w"]["latents"]
    again = {
        "m": graph["m"],
        "r": node("SA3LoadLatents", file=file),
        **saved("r", "u"),
    }
    second = comfy.client.run(again)
    assert second.status == "success", second.error
    names = [run.outputs["ts"]["audio"][0], second.outputs["us"]["audio"][0]]
    first, reread = (
        read_audio(Path(comfy.base) / "output" / n["subfolder"] / n["filename"])[0] for n in names
    )
    assert first.shape[-1] == RATE
    assert torch.equal(first, reread)
