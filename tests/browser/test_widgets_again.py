"""Every widget of ours shows the same after all that makes the page build its node anew.

One graph holds them all and runs once; each action is followed by one look at the whole page.
"""

from __future__ import annotations

import math
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import TimeoutError as PageTimeoutError

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from tests.helpers.frontend import RENDERERS
from tests.tools.example_inputs import LORA

RATE = 44100
FOLDER, TONE, LORA_NAME = "widgets_again", "widgets_again.wav", "widgets_again.safetensors"
NODES: dict[str, tuple[str, int, int, dict[str, Any]]] = {  # name: kind, place, values
    "model": ("SA3LoadModel", 0, 0, {"model": "tiny-s", "precision": "fp32"}),
    "text": ("SA3TextEncode", 0, 420, {"text": "warm pads"}),
    "lora": ("SA3LoraLoader", 0, 800, {"lora": LORA_NAME, "layer_filter": "layers[0-1]"}),
    "load": ("LoadAudio", 450, 0, {"audio": TONE}),
    "mask": ("SA3InpaintMask", 450, 280, {"regions": "1-2"}),
    "save": ("SA3SaveAudio", 450, 900, {"filename_prefix": "again/widgets"}),
    "compare": ("SA3CompareAudio", 900, 0, {}),
    "clips": ("SA3AudioDataset", 900, 420, {"folder": FOLDER}),
    "encoded": ("SA3EncodeDataset", 900, 800, {"piece_seconds": 1.0}),
    "train": (
        "SA3TrainLora",
        1350,
        0,
        {"steps": 3, "rank": 2, "preview_prompts": "", "allow_post_trained": True},
    ),
    "saved": ("SA3SaveLora", 1800, 0, {"filename_prefix": "widgets_again_trained"}),
}
LINKS = (
    ("model", 1, "text", "clip"),
    ("load", 0, "save", "audio"),
    ("load", 0, "compare", "a"),
    ("load", 0, "compare", "b"),
    ("clips", 0, "encoded", "dataset"),
    ("model", 2, "encoded", "vae"),
    ("model", 0, "train", "model"),
    ("model", 1, "train", "clip"),
    ("model", 2, "train", "vae"),
    ("encoded", 0, "train", "encoded"),
    ("train", 0, "saved", "lora"),
)
# Widget -> the words of it that a person sees, one entry for each that is on the page.
SEEN = """() => {
    // Column by column: the canvas renderer keeps elements in the order of their making.
    const place = (e) => e.getBoundingClientRect();
    const inSight = (a, b) =>
        Math.round(place(a).left - place(b).left) || place(a).top - place(b).top;
    const shown = (selector) => [...document.querySelectorAll(selector)]
        .filter(e => e.checkVisibility() && place(e).height > 2).sort(inSight);
    const words = (selector) => shown(selector).map(e => e.innerText.trim()).filter(text => text);
    const isDrawn = (canvas) => {
        if (!canvas.width || !canvas.height) return false;
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return data.some((value, index) => index % 4 === 3 && value > 0);
    };
    return {
        status: words('.sa3-status'),
        tokens: words('.sa3-tokens'),
        layers: words('.sa3-lora-status'),
        regions: shown('.sa3-regions').map(e =>
            [...e.querySelectorAll('[role=option]')].map(o => o.textContent).join('; ')),
        waveform: shown('.sa3-regions').map(e => [...e.querySelectorAll('canvas')].some(isDrawn))
            .map(String),
        takes: shown('.sa3-compare').map(e =>
            [...e.querySelectorAll('[role=radio]')].map(r => r.textContent).join(' ')),
        player: [...document.querySelectorAll('audio')]
            .filter(e => e.src && e.duration > 0 && e.parentElement.checkVisibility())
            .map(e => new URL(e.src).searchParams)
            .filter(file => file.get('type') === 'output').map(file => file.get('filename')),
        cards: shown('.sa3-card').map(e => e.ariaLabel),
        messages: words('.sa3-message:not(.sa3-measure)'),
        clips: shown('.sa3-clips').map(e => [...e.querySelectorAll('tbody tr')].length).map(String),
        loss: shown('.sa3-training').map(e =>
            `${e.querySelector('[role=status]').innerText} ${isDrawn(e.querySelector('canvas'))}`),
    };
}"""
LOOK = "() => { app.canvas.ds.scale = 0.32; app.canvas.ds.offset = [160, 240]; }"
SELECT = """app.canvas.deselectAll();
    app.canvas.selectItems(ids.map(id => app.graph.getNodeById(id)));"""
WAIT = 60_000  # ms
COUNTS = {  # of each widget in the graph, with something to show
    **dict.fromkeys(("status", "tokens", "layers", "regions", "waveform", "takes"), 1),
    **dict.fromkeys(("player", "cards", "loss"), 1),
    "messages": 7,
    "clips": 2,
}


@pytest.fixture(scope="module", autouse=True)
def inputs(comfy, frontend) -> None:
    def tone(path: Path, hertz: float, seconds: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = 0.4 * (2 * math.pi * hertz * torch.arange(int(seconds * RATE)) / RATE).sin()
        write_audio(path, wave.repeat(2, 1), RATE, FORMATS["wav-16"])

    tone(comfy.base / "input" / TONE, 330.0, 4.0)
    for name, hertz in (("high", 880.0), ("low", 220.0)):
        tone(comfy.base / "input" / FOLDER / f"{name}.wav", hertz, 1.0)
        (comfy.base / "input" / FOLDER / f"{name}.txt").write_text(f"{name} tone", "utf-8")
    shutil.copy(LORA, comfy.models("loras") / LORA_NAME)
    frontend.open()


def look(ui) -> None:
    """The whole graph in sight, and no node drawn without its widgets for being small."""
    ui.page.evaluate("() => { app.canvas.min_font_size_for_lod = 0; }")
    ui.page.evaluate(LOOK)
    ui.settle(400)


def build(ui) -> list[int]:
    """The graph, in a tab of its own that never ran; ids of its nodes."""
    # What the server takes from its cache says nothing.
    ui.server.client.post("/free", {"unload_models": True, "free_memory": True})
    ui.page.evaluate("() => { app.graph.id = crypto.randomUUID(); }")
    ids: dict[str, int] = {}
    for name, (kind, x, y, values) in NODES.items():
        ids[name] = int(ui.add_node(kind, x, y))
        for widget, value in values.items():
            ui.set_widget(ids[name], widget, value)
    ui.page.evaluate(
        """links => links.forEach(([from, slot, to, input]) => {
            const target = app.graph.getNodeById(to);
            const place = target.inputs.findIndex(i => i.name === input);
            app.graph.getNodeById(from).connect(slot, target, place);
        })""",
        [[ids[start], slot, ids[end], name] for start, slot, end, name in LINKS],
    )
    ui.load({**ui.workflow(), "id": str(uuid.uuid4())})
    look(ui)
    ui.record_change()
    return list(ids.values())


def assert_seen(ui, wanted: dict[str, list[str]], after: str) -> None:
    """The page shows just this, as soon as it has built its nodes."""
    same = f"wanted => JSON.stringify(({SEEN})()) === JSON.stringify(wanted)"
    try:
        ui.page.wait_for_function(same, arg=wanted, timeout=WAIT)
    except PageTimeoutError as error:
        now = ui.page.evaluate(SEEN)
        found = {name: (now[name], wanted[name]) for name in wanted if now[name] != wanted[name]}
        raise AssertionError(f"after {after}, (seen, wanted): {found}") from error


def assert_tags_are_completed(ui) -> None:
    """The prompt box goes on offering tags, and what is chosen stands in its value."""
    boxes = ui.page.locator("[data-node-id] textarea, textarea.comfy-multiline-input")
    before = str(NODES["text"][3]["text"])
    (box,) = [box for box in boxes.all() if box.is_visible() and box.input_value() == before]
    box.click()
    ui.page.keyboard.press("End")
    ui.page.keyboard.type(", TrackType: Mu")
    options = ui.page.locator("#sa3-suggestions [role=option]")
    options.first.wait_for(timeout=WAIT)
    assert options.all_text_contents() == ["Music"]
    ui.page.keyboard.press("Tab")
    assert box.input_value().endswith("TrackType: Music, ")
    box.fill(before)
    ui.page.evaluate("() => document.activeElement.blur()")


def into_a_subgraph(ui, ids: list[int]) -> None:
    ui.page.evaluate(
        """ids => {
            const items = new Set(ids.map(id => app.graph.getNodeById(id)));
            const { node } = app.graph.convertToSubgraph(items);
            app.canvas.openSubgraph(node.subgraph, node);
        }""",
        ids,
    )
    look(ui)


def open_the_box(ui) -> None:
    ui.page.evaluate(
        """() => {
            const box = app.graph.nodes.find((node) => node.subgraph);
            app.canvas.openSubgraph(box.subgraph, box);
        }"""
    )
    look(ui)


def out_of_the_subgraph(ui) -> None:
    ui.page.evaluate("() => app.canvas.setGraph(app.rootGraph)")
    ui.settle()
    ui.page.evaluate("() => app.graph.unpackSubgraph(app.graph.nodes.find(n => n.subgraph))")
    look(ui)
    # What the page logs of each input that nothing was connected to.
    ui.errors[:] = [error for error in ui.errors if "Missing Link ID when unpacking" not in error]


def paste(ui, ids: list[int]) -> None:
    ui.page.evaluate(
        f"ids => {{ {SELECT} app.canvas.copyToClipboard();"
        " app.canvas.pasteFromClipboard({ position: [2300, 0] }); }",
        ids,
    )
    look(ui)


def ran(ui) -> dict[str, list[str]]:
    """Run the graph; what the page shows then, each of our widgets among it."""
    history = ui.queue()
    assert history["status"]["status_str"] == "success", history["status"]
    whole = (
        "({ loss, player, messages }) => /true/.test(loss) && player.length"
        f" && messages.length >= {COUNTS['messages']}"
    )
    ui.page.wait_for_function(f"() => ({whole})(({SEEN})())", timeout=WAIT)
    shown = ui.steady(SEEN)
    assert {name: len(words) for name, words in shown.items()} == COUNTS
    assert shown["status"] == ["On disk (33.5 MB)."]
    assert shown["layers"][0].endswith("18 of 40 layers active.")
    assert shown["regions"] == ["Region 1: 1-2 s"]
    assert shown["takes"] == ["A B"]
    assert shown["player"] == shown["cards"]
    assert shown["clips"] == ["2", "2"]
    assert shown["loss"] == ["3 of 3 steps. true"]
    assert "3 steps, last loss" in "".join(shown["messages"])
    return shown


def with_copies(shown: dict[str, list[str]]) -> dict[str, list[str]]:
    """What the page shows where each node stands twice, and the copies have run nothing."""
    copied = {name: shown[name] for name in ("status", "tokens", "layers", "regions", "waveform")}
    copied |= {"takes": [""], "clips": ["0", "0"], "loss": ["Run the graph to train. false"]}
    return {name: [*words, *copied.get(name, [])] for name, words in shown.items()}


def opened_again(ui, renderer: str, in_a_box: bool = False) -> None:
    """A reload: only the server's history knows of the run."""
    workflow = ui.workflow()
    ui.open()
    ui.use_renderer(renderer)
    ui.load(workflow)
    if in_a_box:
        open_the_box(ui)
    look(ui)


# Actions that only the long form takes.
LONG = ("redo", "a reload", "a reload of the subgraph", "a reload of what was in it")


@pytest.mark.parametrize("is_long", [False, pytest.param(True, marks=pytest.mark.soak)])
@pytest.mark.parametrize("renderer", RENDERERS)
def test_each_widget_shows_the_same_after_each_action(ui, renderer, is_long):
    ui.use_renderer(renderer)
    ids = build(ui)
    shown = ran(ui)
    ui.screenshot(f"widgets-again-{renderer}")
    nothing: dict[str, list[str]] = {name: [] for name in shown}
    ui.set_widget(ids[list(NODES).index("save")], "format", "wav-24")
    ui.record_change()

    def command(name: str) -> None:
        ui.command(name)
        look(ui)

    def back() -> None:
        command("Comfy.NewBlankWorkflow")
        assert_seen(ui, nothing, "an empty tab")
        command("Workspace.PreviousOpenedWorkflow")

    actions: dict[str, tuple[Callable[[], None], dict[str, list[str]]]] = {
        "undo": (lambda: command("Comfy.Undo"), shown),
        "redo": (lambda: command("Comfy.Redo"), shown),
        "another tab and back": (back, shown),
        "copy and paste": (lambda: paste(ui, ids), with_copies(shown)),
        "undo of the paste": (lambda: command("Comfy.Undo"), shown),
        "a reload": (lambda: opened_again(ui, renderer), shown),
        "into a subgraph": (lambda: into_a_subgraph(ui, ids), shown),
        "a reload of the subgraph": (lambda: opened_again(ui, renderer, in_a_box=True), shown),
        "out of the subgraph": (lambda: out_of_the_subgraph(ui), shown),
        "a reload of what was in it": (lambda: opened_again(ui, renderer), shown),
    }
    for name, (act, wanted) in actions.items():
        if not is_long and name in LONG:
            continue
        act()
        assert_seen(ui, wanted, name)
        if wanted is shown and (is_long or name == "undo"):
            assert_tags_are_completed(ui)
    ui.screenshot(f"widgets-again-{renderer}-end")


@pytest.mark.soak
def test_what_ran_inside_a_subgraph_is_there_after_a_reload(ui):
    renderer = "vue"
    ui.use_renderer(renderer)
    into_a_subgraph(ui, build(ui))
    shown = ran(ui)
    ui.page.evaluate("() => app.canvas.setGraph(app.rootGraph)")
    look(ui)
    opened_again(ui, renderer, in_a_box=True)
    assert_seen(ui, shown, "a reload, inside the subgraph")
