"""The blueprints in the page: found by a word, put on the canvas, run, unpacked."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from tests.helpers.frontend import Frontend
from tests.helpers.region_editor import write_tone
from tests.tools.example_inputs import LORA
from tests.tools.make_blueprints import AROUND, BOXES, FOLDER, Box

SHORT = {
    "Make Sound from Text": {"seconds": 1.0},
    "Restyle a Sound": {"denoise": 0.5},
    "Replace a Part": {"regions": "0.5-1"},
    "Continue": {"seconds": 1.0, "where": "before the start"},
    "Make a Loop": {"bars": 2.0, "bpm": 120.0},
    "Use LoRA": {"seconds": 1.0, "lora": "boxed.safetensors", "strength": 0.5},
}


@pytest.fixture(scope="module", autouse=True)
def inputs(comfy, frontend) -> None:
    write_tone(comfy.base / "input" / "boxed.wav", 6.0)
    shutil.copy(LORA, comfy.models("loras") / "boxed.safetensors")
    frontend.open()


def put(ui: Frontend, title: str) -> int:
    """Search the node library for a box and put it on the canvas, as a person does."""
    ui.page.mouse.dblclick(900, 300)
    field = "() => document.activeElement instanceof HTMLInputElement"
    ui.page.wait_for_function(field, timeout=60_000)
    ui.page.keyboard.type(title)
    found = ui.page.get_by_role("dialog").get_by_text(title).first
    found.wait_for(timeout=60_000)
    ui.settle(600)  # the list is searched anew as one types
    ui.page.keyboard.press("Enter")
    ui.settle(600)
    ui.page.mouse.click(900, 300)
    box = "title => app.graph.nodes.find((node) => node.title === title)?.id"
    ui.page.wait_for_function(box, arg=title, timeout=10_000)
    return ui.page.evaluate(box, title)


def connect(ui: Frontend, source: int, target: int) -> None:
    ui.page.evaluate(
        """([from, to]) => {
            const target = app.graph.getNodeById(to);
            const slot = target.inputs.findIndex(input => input.type === "AUDIO");
            app.graph.getNodeById(from).connect(0, target, slot);
        }""",
        [source, target],
    )


def inside(graph: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Nodes of an API graph with the values that are no links, whatever their ids."""
    nodes = [
        (n["class_type"], {k: v for k, v in n["inputs"].items() if not isinstance(v, list)})
        for n in graph.values()
        if n["class_type"] not in AROUND
    ]
    return sorted(nodes, key=lambda node: node[0])


# One that takes text alone and one that takes a sound; the others cost seconds each.
SHORT_RUN = ("Make Sound from Text", "Replace a Part")


@pytest.mark.parametrize(
    "box",
    [
        pytest.param(box, id=box.title, marks=[] if box.title in SHORT_RUN else pytest.mark.soak)
        for box in BOXES
    ],
)
def test_a_box_is_found_run_and_unpacked(ui, box: Box):
    ui.use_renderer("vue")
    node_id = put(ui, box.title)
    names = [name for name, *_ in box.inputs]
    assert [name for name in ui.widgets(node_id) if name in names] == names
    model = "tiny-m" if box.without else "tiny-s"  # the LoRA's
    values = {"prompt": "a box", "model": model, "seed": 7, **SHORT[box.title]}
    assert set(values) == set(names)
    for name, value in values.items():
        ui.set_widget(node_id, name, value)
    save = ui.add_node("SA3SaveAudio", 900, 60)
    connect(ui, node_id, save)
    if any(slot["type"] == "AUDIO" for slot in definition(box)["inputs"]):
        load = ui.add_node("LoadAudio", 0, 60)
        ui.set_widget(load, "audio", "boxed.wav")
        connect(ui, load, node_id)
    graph = ui.api_graph()
    for name, node_type, widget in box.inputs:
        (found,) = [v for kind, v in inside(graph) if kind == node_type]
        assert found[widget] == values[name]
    history = ui.queue()
    assert history["status"]["status_str"] == "success"
    assert history["outputs"][str(save)]["audio"]
    ui.screenshot(f"blueprint-{box.workflow}")
    ui.page.evaluate("id => app.graph.unpackSubgraph(app.graph.getNodeById(id))", node_id)
    ui.settle(600)
    # What the page logs of each input that nothing was connected to.
    ui.errors[:] = [error for error in ui.errors if "Missing Link ID when unpacking" not in error]
    types = [node["type"] for node in ui.workflow()["nodes"]]
    inner = [node["type"] for node in definition(box)["nodes"]]
    assert sorted(t for t in types if t not in AROUND) == sorted(inner)
    before, after = inside(graph), inside(ui.api_graph())
    shown = {(node_type, widget) for _, node_type, widget in box.inputs}
    for kind, found in (*before, *after):
        for widget in [widget for widget in found if (kind, widget) in shown]:
            del found[widget]  # not every page hands the box's values on
    assert after == before


def definition(box: Box) -> dict[str, Any]:
    """The box's subgraph."""
    path = FOLDER / f"{box.title}.json"
    return json.loads(path.read_text(encoding="utf-8"))["definitions"]["subgraphs"][0]


@pytest.mark.smoke
def test_none_is_refused_by_the_page(ui):
    """The page reads them all when it starts; a bad one is an error on everybody's screen."""
    ui.open()
    ui.settle(1500)
    toasts = "() => [...document.querySelectorAll('.p-toast-message')].map(e => e.textContent)"
    assert ui.page.evaluate(toasts) == []
    assert not [error for error in ui.errors if "blueprint" in error]
