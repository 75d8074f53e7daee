"""A page with one region editor on it, and ways to work it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from tests.helpers.frontend import Frontend

LOAD, VAE, MASK, DECODE, SHOW = 1, 2, 3, 4, 5
EDITOR = f"app.graph.getNodeById({MASK}).sa3Regions"
RATE = 44100


def write_tone(path: Path, seconds: float, hertz: float = 220.0) -> None:
    """A stereo sine that grows louder within each second."""
    at = np.arange(int(seconds * RATE)) / RATE
    sine = np.sin(2 * math.pi * hertz * at) * (0.2 + 0.6 * (at % 1))
    stereo = torch.from_numpy(np.stack([sine, sine / 2]).astype(np.float32))
    write_audio(path, stereo, RATE, FORMATS["flac-16"])


def graph(file: str, regions: str = "", bpm: float = 0.0, per_line: bool = False) -> dict[str, Any]:
    """Load Audio and Load SAME into Inpaint Mask, and a player behind it, in UI format."""
    widgets = [regions, per_line, False, bpm, 4, "cover", 0, "make anew too"]
    load = {
        "outputs": [{"name": "AUDIO", "type": "AUDIO", "links": [1]}],
        "widgets_values": [file, None, None],
    }
    same = {
        "outputs": [{"name": "VAE", "type": "VAE", "links": [2, 4]}],
        "widgets_values": ["tiny-s"],
    }
    mask = {
        "inputs": [
            {"name": "latent", "type": "LATENT", "link": None},
            {"name": "audio", "type": "AUDIO", "link": 1},
            {"name": "vae", "type": "VAE", "link": 2},
        ],
        "outputs": [{"name": "LATENT", "type": "LATENT", "links": [3]}],
        "widgets_values": widgets,
    }
    decode = {
        "inputs": [
            {"name": "samples", "type": "LATENT", "link": 3},
            {"name": "vae", "type": "VAE", "link": 4},
        ],
        "outputs": [{"name": "AUDIO", "type": "AUDIO", "links": [5]}],
    }
    show = {"inputs": [{"name": "audio", "type": "AUDIO", "link": 5}]}
    places = {"pos": [20, 60], "size": [300, 140]}, {"pos": [20, 320], "size": [300, 140]}
    return {
        "version": 0.4,
        "last_node_id": SHOW,
        "last_link_id": 5,
        "links": [
            [1, LOAD, 0, MASK, 1, "AUDIO"],
            [2, VAE, 0, MASK, 2, "VAE"],
            [3, MASK, 0, DECODE, 0, "LATENT"],
            [4, VAE, 0, DECODE, 1, "VAE"],
            [5, DECODE, 0, SHOW, 0, "AUDIO"],
        ],
        "nodes": [
            {"id": LOAD, "type": "LoadAudio", **places[0], **load},
            {"id": VAE, "type": "SA3LoadSAME", **places[1], **same},
            {"id": MASK, "type": "SA3InpaintMask", "pos": [400, 60], "size": [640, 620], **mask},
            {"id": DECODE, "type": "VAEDecodeAudio", "pos": [20, 540], "size": [300, 60], **decode},
            {"id": SHOW, "type": "PreviewAudio", "pos": [20, 680], "size": [300, 100], **show},
        ],
    }


class EditorPage:
    """One editor on the page, with mouse and keyboard.

    Attributes:
        ui: the frontend.
    """

    def __init__(self, ui: Frontend) -> None:
        self.ui, self.page = ui, ui.page
        self.evaluate("() => app.refreshComboInNodes()")  # the page may be older than the file

    def evaluate(self, script: str, arg: Any = None) -> Any:
        return self.page.evaluate(script, arg)

    def load(self, workflow: dict[str, Any]) -> None:
        """Load a graph of `graph()` and wait until its sound is there."""
        self.ui.load(workflow)
        self.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [60, 60]; }")
        self.page.wait_for_function(f"() => {EDITOR}.sound.peaks")
        self.ui.settle(150)

    def get(self, what: str) -> Any:
        """A property of the editor, such as "selected"."""
        return self.evaluate(f"() => {EDITOR}.{what}")

    @property
    def text(self) -> str:
        """The widget's value."""
        return self.ui.widgets(MASK)["regions"]

    @property
    def regions(self) -> list[tuple[float, float]]:
        """What the picture shows."""
        return [(r["start"], r["end"]) for r in self.get("regions")]

    @property
    def spans(self) -> list[tuple[float, float]]:
        """What the picture shows as made anew."""
        return [(span["start"], span["end"]) for span in self.get("spans")]

    def place(self, seconds: float) -> tuple[float, float]:
        """Where a time lies on the page."""
        script = f"""time => {{
            const box = {EDITOR}.panel.picture.getBoundingClientRect();
            const {{ view }} = {EDITOR};
            return [box.left + view.x(time) / view.width * box.width, box.top + box.height / 2];
        }}"""
        x, y = self.evaluate(script, seconds)
        return x, y

    def drag(self, start: float, end: float, steps: int = 4) -> None:
        """Drag with the mouse from one time to another."""
        self.page.mouse.move(*self.place(start))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(end), steps=steps)
        self.page.mouse.up()
        self.ui.settle(50)

    def click(self, seconds: float) -> None:
        self.page.mouse.click(*self.place(seconds))
        self.ui.settle(50)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
        self.ui.settle(100)

    def choose(self, snap: str) -> None:
        """Choose what to snap to."""
        self.page.locator(".sa3-regions .sa3-tools select").first.select_option(snap)
        self.ui.settle(50)
