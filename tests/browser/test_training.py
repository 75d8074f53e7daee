"""Learning through the page: clips in the node, a live curve, a stop, going on, the file's use."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from tests.helpers.frontend import RENDERERS

RATE = 44100
WAIT = 240_000  # ms; two cores, and other suites beside
CONNECT = """([from, slot, to, input]) => {
    const target = app.graph.getNodeById(to);
    const place = target.inputs.findIndex(i => i.name === input);
    app.graph.getNodeById(from).connect(slot, target, place);
}"""
STATE = "id => app.graph.getNodeById(id).sa3Training.state"
DRAWN = """id => { const { canvas } = app.graph.getNodeById(id).sa3Training;
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return data.some(value => value > 0); }"""
HEARD = "id => !app.graph.getNodeById(id).sa3Clips.player.paused"


def tone(path: Path, hertz: float) -> None:
    time = torch.arange(RATE) / RATE
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.4 * (2 * math.pi * hertz * time).sin()
    write_audio(path, wave.repeat(2, 1), RATE, FORMATS["wav-16"])


@pytest.fixture(scope="module", autouse=True)
def sounds(comfy, frontend) -> None:
    """A captioned tone, one without a caption and a silent one, in a folder that the page lists."""
    folder = comfy.base / "input" / "lesson"
    for name, hertz in (("low", 220.0), ("bare", 440.0), ("still", 0.0)):
        tone(folder / f"{name}.wav", hertz)
    (folder / "low.txt").write_text("low tone", encoding="utf-8")
    (folder / "still.txt").write_text("nothing", encoding="utf-8")
    frontend.open()


def connected(ui, *links: tuple[int, int, int, str]) -> None:
    for link in links:
        ui.page.evaluate(CONNECT, list(link))


def rows(element) -> list[list[str]]:
    """Cells of a table's lines; of a field its text."""
    script = """trs => trs.map(tr => [...tr.cells].map(cell =>
        cell.querySelector('input')?.value ?? cell.textContent))"""
    return element.locator("tbody tr").evaluate_all(script)


def element(ui, node_id: int, part: str):
    """The element of one of our nodes that a person sees, marked so that it is found again."""
    ui.page.evaluate(
        """([id, part]) => { app.graph.getNodeById(id)[part].element.dataset.test = part + id; }""",
        [node_id, part],
    )
    return ui.page.locator(f"[data-test='{part}{node_id}']")


def look_at(ui, node_id: int) -> None:
    """Move the view so that one node shows at its full size."""
    ui.page.evaluate(
        """id => { const { ds } = app.canvas; const node = app.graph.getNodeById(id);
            ds.scale = 1; ds.offset = [60 - node.pos[0], 90 - node.pos[1]];
            app.canvas.setDirty(true, true); }""",
        node_id,
    )
    ui.settle()


def dataset_graph(ui) -> dict[str, int]:
    """Loader, dataset and encoder."""
    # The page keeps values by graph and node: without an id every graph is the same one.
    ui.page.evaluate("() => { app.graph.id = crypto.randomUUID(); }")
    nodes = {
        "model": ui.add_node("SA3LoadModel"),
        "clips": ui.add_node("SA3AudioDataset", x=500),
        "encoded": ui.add_node("SA3EncodeDataset", x=1000),
    }
    ui.set_widget(nodes["model"], "model", "tiny-s")
    ui.set_widget(nodes["model"], "precision", "fp32")
    ui.set_widget(nodes["clips"], "folder", "lesson")
    connected(
        ui,
        (nodes["model"], 2, nodes["encoded"], "vae"),
        (nodes["clips"], 0, nodes["encoded"], "dataset"),
    )
    return nodes


def add_trainer(ui, nodes: dict[str, int], name: str) -> None:
    nodes["train"] = train = ui.add_node("SA3TrainLora", x=1500)
    nodes["save"] = ui.add_node("SA3SaveLora", x=2000)
    model = nodes["model"]
    connected(
        ui,
        (model, 0, train, "model"),
        (model, 1, train, "clip"),
        (nodes["encoded"], 0, train, "encoded"),
        (model, 2, train, "vae"),
        (train, 0, nodes["save"], "lora"),
    )
    values: dict[str, Any] = {
        "name": name,
        "steps": 100_000,
        "rank": 2,
        "rate": 0.01,
        "save_every": 4,
        "preview_prompts": "low tone",
        "preview_seconds": 1.0,
        "allow_post_trained": True,
    }
    for key, value in values.items():
        ui.set_widget(train, key, value)
    ui.set_widget(nodes["save"], "filename_prefix", name)


def begin(ui) -> str:
    """Press Run; the run's id."""
    with ui.page.expect_response(lambda answer: answer.url.endswith("/api/prompt")) as posted:
        ui.command("Comfy.QueuePrompt")
    assert posted.value.status == 200, posted.value.text()
    return posted.value.json()["prompt_id"]


def steps_of(folder: Path) -> list[int]:
    with (folder / "log.csv").open(encoding="utf-8") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("renderer", RENDERERS)
def test_clips_are_learnt_from_seen_stopped_gone_on_with_and_used(ui, comfy, renderer):
    ui.use_renderer(renderer)
    nodes = dataset_graph(ui)
    assert ui.queue()["status"]["status_str"] == "success"
    look_at(ui, nodes["clips"])
    table = element(ui, nodes["clips"], "sa3Clips")
    table.locator("tbody tr").first.wait_for(timeout=WAIT)
    assert rows(table) == [
        ["▶", "bare.wav", "1.0", "", "no caption"],
        ["▶", "low.wav", "1.0", "low tone", "used"],
        ["▶", "still.wav", "1.0", "nothing", "used"],
    ]
    table.get_by_role("button", name="Play").nth(1).click()
    ui.page.wait_for_function(HEARD, arg=nodes["clips"], timeout=WAIT)
    table.get_by_role("textbox").first.fill("middle tone")
    ui.page.keyboard.press("Tab")
    ui.screenshot(f"dataset-{renderer}")
    add_trainer(ui, nodes, f"page_{renderer}")
    train = nodes["train"]
    look_at(ui, train)
    first = begin(ui)
    view = element(ui, train, "sa3Training")
    # While it runs: a curve, a sentence, a preview to hear.
    ui.page.wait_for_function(f"id => ({STATE})(id)?.previews.length >= 1", arg=train, timeout=WAIT)
    view.get_by_role("status").wait_for(timeout=WAIT)
    view.locator("audio").first.wait_for(timeout=WAIT)
    ui.page.wait_for_function(DRAWN, arg=train, timeout=WAIT)
    assert "of 100000" in view.get_by_role("status").text_content()
    assert first in [job[1] for job in comfy.client.get("/queue")["queue_running"]]
    ui.screenshot(f"training-{renderer}")
    ui.command("Comfy.Interrupt")
    stopped = comfy.client.wait_for_history(first, WAIT / 1000)
    assert stopped["status"]["status_str"] == "error"  # as the host calls an interrupted run
    (folder,) = (comfy.base / "output" / "sa3_training").glob(f"page_{renderer}-*")
    done = steps_of(folder)
    assert done == list(range(1, len(done) + 1))
    assert len(done) >= 4
    encoded = element(ui, nodes["encoded"], "sa3Clips")
    assert [row[4] for row in rows(encoded)] == ["used", "used", rows(encoded)[2][4]]
    assert "silent" in rows(encoded)[2][4]
    # The next run goes on.
    ui.set_widget(train, "steps", len(done) + 2)
    history = ui.queue()
    assert history["status"]["status_str"] == "success", history["status"]
    assert steps_of(folder) == [*done, len(done) + 1, len(done) + 2]
    ui.page.wait_for_function(
        f"([id, step]) => ({STATE})(id).step === step", arg=[train, len(done) + 2], timeout=WAIT
    )
    assert f"{len(done) + 2}" in view.get_by_role("status").text_content()
    file = f"page_{renderer}_00001.safetensors"
    assert (comfy.models("loras") / file).is_file()
    ui.errors.clear()  # the frontend logs that a run was interrupted
    use(ui, nodes, file)


def use(ui, nodes: dict[str, int], file: str) -> None:
    """The saved file in LoRA Loader, and a piece made with it."""
    for name in ("train", "save", "encoded", "clips"):
        ui.page.evaluate("id => app.graph.remove(app.graph.getNodeById(id))", nodes[name])
    ui.command("Comfy.RefreshNodeDefinitions")
    lora, text = ui.add_node("SA3LoraLoader", x=500), ui.add_node("SA3TextEncode", y=500)
    latent, sampler = ui.add_node("SA3EmptyLatent", x=500, y=500), ui.add_node("SA3Sampler", x=1000)
    decode, save = ui.add_node("SA3SAMEDecode", x=1500), ui.add_node("SA3SaveAudio", x=2000)
    model = nodes["model"]
    connected(
        ui,
        (model, 0, lora, "model"),
        (model, 1, text, "clip"),
        (lora, 0, sampler, "model"),
        (text, 0, sampler, "positive"),
        (latent, 0, sampler, "latent"),
        (sampler, 0, decode, "latent"),
        (model, 2, decode, "vae"),
        (decode, 0, save, "audio"),
    )
    choices = "id => app.graph.getNodeById(id).widgets.find(w => w.name === 'lora').options.values"
    assert file in ui.page.evaluate(choices, lora)
    ui.set_widget(lora, "lora", file)
    ui.set_widget(text, "text", "low tone")
    ui.set_widget(latent, "seconds", 1.0)
    history = ui.queue()
    assert history["status"]["status_str"] == "success", history["status"]
    assert history["outputs"][str(save)]["audio"]
    assert any(
        file.removesuffix(".safetensors") in line for line in history["outputs"][str(lora)]["text"]
    )
