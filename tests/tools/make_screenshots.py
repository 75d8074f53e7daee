"""Take the README's pictures in the real frontend.

    python -m tests.tools.make_screenshots [NAME ...]

Writes js/docs/images/*.png and drawing.gif, or those named. Run it when the nodes or the
frontend look different.
"""

# ruff: noqa: T201 - a command, it prints

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import sync_playwright

from demo_model.maker import sounds
from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import format_for
from tests.helpers.chromium import find_browser, launch_options
from tests.helpers.client import node
from tests.helpers.frontend import Frontend
from tests.helpers.harness import ComfyServer
from tests.helpers.support import ROOT, comfyui_root, tiny_checkpoint
from tests.tools.example_inputs import api_workflow, page_form, write_example_inputs
from tests.tools.layout import ARRANGE, BOUNDS, FILL

IMAGES = ROOT / "js" / "docs" / "images"
VIEWPORT = {"width": 1400, "height": 800}
GRAPH_AREA = (90, 165, 1370, 770)
MARGIN = 24
MODEL = "demo"
LONG = 600  # seconds that a training may take
INPAINT_MASK = 5  # its id in inpaint_one_region
STOCK_MODEL = "stable_audio_3_medium.safetensors"
STOCK_ENCODER = "t5gemma_b_b_ul2.safetensors"

PLACE = f"""(stock) => {{
    {ARRANGE}
    const nodes = [...app.graph.nodes].sort((a, b) => a.id - b.id);
    const sets = [
        ["ComfyUI's own nodes", nodes.filter((node) => stock.includes(String(node.id)))],
        ["ComfyUI-SA3", nodes.filter((node) => !stock.includes(String(node.id)))],
    ];
    let top = 0;
    for (const [title, members] of sets) {{
        const bottom = arrange(members, top);
        const group = new LiteGraph.LGraphGroup(title);
        app.graph.add(group);
        const right = Math.max(...members.map((node) => node.pos[0] + node.size[0]));
        group.pos = [-20, top - 90];
        group.size = [right + 40, bottom - top + 60];
        top = bottom + 130;
    }}
}}"""


def stock_graph() -> dict[str, Any]:
    """The core of ComfyUI's template for Stable Audio 3 Medium."""
    return {
        "11": node("CheckpointLoaderSimple", ckpt_name=STOCK_MODEL),
        "12": node("CLIPLoader", clip_name=STOCK_ENCODER, type="stable_audio", device="default"),
        "13": node("EmptyLatentAudio", seconds=30.0, batch_size=1),
        "14": node("CLIPTextEncode", clip=["12", 0], text="tropical house, marimba, steel drums"),
        "15": node("CLIPTextEncode", clip=["12", 0], text=""),
        "16": node(
            "KSampler",
            **{"model": ["11", 0], "positive": ["14", 0], "negative": ["15", 0]},
            **{"latent_image": ["13", 0], "seed": 0, "steps": 8, "cfg": 1.0},
            **{"sampler_name": "lcm", "scheduler": "simple", "denoise": 1.0},
        ),
        "17": node("VAEDecodeAudio", samples=["16", 0], vae=["11", 2]),
        "18": node("SaveAudioMP3", audio=["17", 0], filename_prefix="audio/sa3", quality="V0"),
    }


def our_graph() -> dict[str, Any]:
    """The same with our nodes, reading the same files."""
    graph = api_workflow("text_to_audio")
    graph["1"]["inputs"]["model"] = f"checkpoints/{STOCK_MODEL}"
    graph["2"]["inputs"]["text"] = "tropical house, marimba, steel drums"
    return graph


def put_models(server: ComfyServer) -> None:
    """Random weights under the stock names that the pictures show; the demo model is there."""
    source = tiny_checkpoint("tiny-s")
    shutil.copy(source / "model.safetensors", server.models("checkpoints") / STOCK_MODEL)
    encoder = source / "t5gemma-b-b-ul2" / "model.safetensors"
    shutil.copy(encoder, server.models("text_encoders") / STOCK_ENCODER)


def put_source(server: ComfyServer) -> None:
    """A sound that the demo model can edit: its autoencoder passes those of its synthesis only."""
    clip = sounds.make_clip(np.random.default_rng(4), ("guitar",), 10.0, 108)
    path = Path(server.base) / "input" / "sa3_source.flac"
    path.parent.mkdir(exist_ok=True)
    write_audio(path, torch.from_numpy(clip.audio), sounds.RATE, format_for(path))


def save(ui: Frontend, name: str, box: tuple[float, float, float, float] | None = None) -> None:
    """Keep the page, or a part of it."""
    picture = Image.open(io.BytesIO(ui.page.screenshot())).convert("RGB")
    path = IMAGES / f"{name}.png"
    picture.crop(box).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


def first_graph(ui: Frontend) -> None:
    """The whole page after a run."""
    ui.load(page_form("text_to_audio"))
    ui.set_widget(1, "model", MODEL)
    ui.set_widget(2, "text", "flute melody with warm synth pad, 108 BPM")
    ui.set_widget(3, "seconds", 10.0)
    ui.queue()
    ui.page.wait_for_function(
        "() => [...document.querySelectorAll('audio')].some(audio => audio.duration > 0)"
    )
    ui.page.evaluate(FILL, GRAPH_AREA)
    ui.settle(1000)
    save(ui, "first_graph")


def editing(ui: Frontend) -> None:
    """Two regions of a sound, drawn in the node and made anew."""
    ui.load(page_form("inpaint_one_region"))
    ui.set_widget(1, "model", MODEL)
    ui.set_widget(2, "text", "bells melody, 108 BPM")
    ui.set_widget(INPAINT_MASK, "regions", "2-3.5, 6-7")
    ui.queue()
    ui.settle(3000)
    ui.page.evaluate(FILL, GRAPH_AREA)
    ui.settle(1000)
    save(ui, "editing")


def drawing(ui: Frontend) -> None:
    """A short film: two regions are drawn, one is made longer, and the text follows."""
    ui.load(page_form("inpaint_one_region"))
    ui.set_widget(INPAINT_MASK, "regions", "")
    ui.page.wait_for_function("id => app.graph.getNodeById(id).sa3Regions.sound.peaks", arg=5)
    view = "id => { const n = app.graph.getNodeById(id); app.canvas.ds.scale = 1.2;"
    view += (
        " app.canvas.ds.offset = [-n.pos[0] + 90, -n.pos[1] + 130]; app.canvas.setDirty(true); }"
    )
    ui.page.evaluate(view, INPAINT_MASK)
    ui.settle(800)
    box = ui.page.evaluate(
        """id => { const n = app.graph.getNodeById(id), s = app.canvas.ds.scale;
        const [x, y] = app.canvas.convertOffsetToCanvas([n.pos[0], n.pos[1] - 32]);
        const r = app.canvas.canvas.getBoundingClientRect();
        const [left, top] = [r.left + x, r.top + y];
        return [left, top, left + n.size[0] * s, top + (n.size[1] + 32) * s];
        }""",
        INPAINT_MASK,
    )
    frames: list[Image.Image] = []

    def shoot(times: int = 1) -> None:
        picture = Image.open(io.BytesIO(ui.page.screenshot())).convert("RGB").crop(box)
        picture.thumbnail((640, 640))
        frames.extend([picture] * times)

    mouse = ui.page.mouse
    shoot(4)
    for start, stop in ((1.0, 2.6), (5.0, 6.4), (6.4, 7.6)):
        mouse.move(*_time_on_page(ui, start))
        mouse.down()
        for step in range(1, 6):
            mouse.move(*_time_on_page(ui, start + (stop - start) * step / 5))
            shoot()
        mouse.up()
        ui.settle(200)
        shoot(3)
    shoot(6)
    path = IMAGES / "drawing.gif"
    palette = [frame.quantize(96) for frame in frames]
    palette[0].save(path, save_all=True, append_images=palette[1:], duration=140, loop=0)
    print(f"{path}: {path.stat().st_size // 1000} kB")


def training(ui: Frontend) -> None:
    """The page after four clips were learnt."""
    ui.load(page_form("train_lora"))
    ui.queue(LONG)
    ui.settle(3000)
    ui.page.evaluate(FILL, GRAPH_AREA)
    ui.settle(1000)
    save(ui, "training", _around_the_graph(ui))


def _around_the_graph(ui: Frontend) -> tuple[float, float, float, float]:
    left, top, right, bottom = ui.page.evaluate(BOUNDS)
    return left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN


def _time_on_page(ui: Frontend, seconds: float) -> tuple[float, float]:
    """Where a time lies in the region editor."""
    script = """([id, time]) => {
        const editor = app.graph.getNodeById(id).sa3Regions, { view } = editor;
        const box = editor.panel.picture.getBoundingClientRect();
        return [box.left + view.x(time) / view.width * box.width, box.top + box.height / 2];
    }"""
    x, y = ui.page.evaluate(script, [INPAINT_MASK, seconds])
    return x, y


def migration(ui: Frontend) -> None:
    """The stock graph above ours."""
    stock = stock_graph()
    graph = {**stock, **our_graph()}
    ui.page.evaluate("graph => window.app.loadApiJson(graph, 'migration')", graph)
    ui.set_setting("Comfy.Graph.CanvasMenu", False)
    ui.page.evaluate(PLACE, list(stock))
    ui.page.evaluate("() => app.extensionManager.command.execute('Workspace.ToggleFocusMode')")
    ui.settle(500)
    ui.page.set_viewport_size({"width": 1500, "height": 1180})
    ui.settle(500)
    ui.page.evaluate(FILL, (MARGIN, MARGIN, 1500 - MARGIN, 1180 - MARGIN))
    ui.settle(1000)
    save(ui, "migration", _around_the_graph(ui))


# `drawing` before anything was run: the page shows again what a node said.
SCENES = {scene.__name__: scene for scene in (drawing, first_graph, editing, training, migration)}


def main(names: list[str]) -> int:
    browser = find_browser()
    if browser is None:
        print("no Chrome, Chromium or Edge; set SA3_BROWSER")
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as base,
        sync_playwright() as playwright,
        ComfyServer(comfyui_root(), Path(base)) as server,
    ):
        put_models(server)
        write_example_inputs(server)
        put_source(server)
        chromium = playwright.chromium.launch(**launch_options(browser))
        page = chromium.new_page(viewport=VIEWPORT, reduced_motion="reduce")
        ui = Frontend(page, server)
        ui.open()
        ui.set_setting("LiteGraph.Canvas.MinFontSizeForLOD", 0)
        ui.set_setting("Comfy.Minimap.Visible", False)
        ui.set_setting("Comfy.Graph.CanvasInfo", False)
        for name in names or SCENES:
            SCENES[name](ui)
        chromium.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
