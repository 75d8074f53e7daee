"""Learning through the page: the loss is seen while it runs, cancelled, gone on with, used."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from tests.helpers.frontend import RENDERERS

RATE = 44100
CONNECT = """([from, output, to, input]) => {
    const target = app.graph.getNodeById(to);
    const slot = target.inputs.findIndex((i) => i.name === input);
    app.graph.getNodeById(from).connect(output, target, slot);
}"""
STEP = "id => app.graph.getNodeById(id).sa3Training.state?.step"
LINKS = (
    ("encode", "vae", "load", 2),
    ("encode", "dataset", "data", 0),
    ("train", "model", "load", 0),
    ("train", "clip", "load", 1),
    ("train", "encoded", "encode", 0),
    ("lora", "model", "load", 0),
    ("lora", "trained", "train", 0),
    ("save", "lora", "train", 0),
)


@pytest.fixture(scope="module", autouse=True)
def recordings(comfy, frontend) -> None:
    """Two captioned tones in a folder that the page lists."""
    folder = comfy.base / "input" / "lessons"
    folder.mkdir(parents=True, exist_ok=True)
    for name, hertz in (("low", 220), ("high", 880)):
        time = torch.arange(RATE) / RATE
        wave = 0.4 * (2 * math.pi * hertz * time).sin()
        write_audio(folder / f"{name}.wav", wave.repeat(2, 1), RATE, FORMATS["wav-16"])
        Path(folder / f"{name}.txt").write_text(f"{name} tone", encoding="utf-8")
    frontend.open()


def training_graph(ui: Any, name: str) -> dict[str, int]:
    kinds = {
        "load": "SA3LoadModel",
        "data": "SA3AudioDataset",
        "encode": "SA3EncodeDataset",
        "train": "SA3TrainLora",
        "lora": "SA3LoraLoader",
        "save": "SA3SaveLora",
    }
    ids = {key: ui.add_node(kind, x=450 * place) for place, (key, kind) in enumerate(kinds.items())}
    for to, wanted, source, output in LINKS:
        ui.page.evaluate(CONNECT, [ids[source], output, ids[to], wanted])
    ui.set_widget(ids["load"], "model", "tiny-s")
    ui.set_widget(ids["data"], "folder", "lessons")
    ui.set_widget(ids["encode"], "piece_seconds", 1.0)
    ui.set_widget(ids["lora"], "lora", "none")
    for widget, value in (("name", name), ("rank", 2), ("allow_post_trained", True)):
        ui.set_widget(ids["train"], widget, value)
    ui.set_widget(ids["save"], "filename_prefix", name)
    return ids


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_lora_is_trained_stopped_and_gone_on_with(ui, comfy, renderer):
    ui.use_renderer(renderer)
    ids = training_graph(ui, f"page_{renderer}".replace(" ", "_").replace(".", ""))
    ui.set_widget(ids["train"], "steps", 100_000)
    ui.page.evaluate("() => app.queuePrompt(0)")
    ui.page.wait_for_function(f"id => ({STEP})(id) >= 2", arg=ids["train"], timeout=60_000)
    view = ui.page.locator(".sa3-training").first
    assert "loss" in view.get_by_role("status").text_content()
    ui.page.evaluate("() => app.api.interrupt?.()")
    ui.page.wait_for_function(
        "async () => { const q = await (await app.api.fetchApi('/queue')).json();"
        " return !q.queue_running.length; }",
        timeout=60_000,
    )
    seen = ui.page.evaluate(STEP, ids["train"])
    ui.set_widget(ids["train"], "steps", seen + 200)
    history = ui.queue()
    assert history["status"]["status_str"] == "success", history["status"]
    (told,) = history["outputs"][str(ids["train"])]["sa3_training"]
    assert told["step"] == told["total"] == seen + 200
    (said,) = history["outputs"][str(ids["save"])]["text"]
    assert (comfy.models("loras") / said.rpartition("/")[2]).is_file()
    assert "layers active" in history["outputs"][str(ids["lora"])]["text"][1]
    clips = ui.page.locator(".sa3-clips").first
    assert clips.get_by_role("row").count() == 3
    clips.get_by_label("Caption: low.wav").fill("a deep tone")
    ui.page.keyboard.press("Tab")
    edited = ui.api_graph()[str(ids["data"])]["inputs"]["edited_captions"]
    assert edited == '{"low.wav":"a deep tone"}'
