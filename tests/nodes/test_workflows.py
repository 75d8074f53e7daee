"""The example workflows in API form, checked against what the server says of its nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sa3_core.checkpoints.bundled import BUNDLED
from tests.helpers.support import ROOT, assert_none
from tests.tools.example_inputs import page_form

WORKFLOWS = ROOT / "example_workflows"
NAMES = sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json"))
NOTES = ("MarkdownNote", "Note")
# Combos of files that the user brings: an example names one that is not there yet.
OWN_FILES = {("LoadAudio", "audio"), ("SA3LoadLatents", "file")}
PLAIN_TYPES: dict[str, type | tuple[type, ...]] = {
    "INT": int,
    "FLOAT": (int, float),
    "STRING": str,
    "BOOLEAN": bool,
}


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="session")
def info(comfy: Any) -> dict[str, Any]:
    """/object_info."""
    return comfy.client.object_info()


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def _entries(node: dict[str, Any]) -> dict[str, Any]:
    groups = (node["input"].get(kind, {}) for kind in ("required", "optional"))
    return {key: entry for group in groups for key, entry in group.items()}


def _link_problem(graph: dict[str, Any], info: dict[str, Any], wanted: str, link: Any) -> str:
    source, slot = link
    if source not in graph:
        return f"link to node {source}, which is not there"
    outputs = info[graph[source]["class_type"]]["output"]
    if not 0 <= slot < len(outputs):
        return f"link to output {slot} of node {source}, which has {len(outputs)}"
    fits = wanted == "*" or outputs[slot] == "*" or outputs[slot] in wanted.split(",")
    return "" if fits else f"{outputs[slot]} where {wanted} is wanted"


def _value_problem(where: tuple[str, str], entry: Any, value: Any) -> str:
    kind, options = entry[0], entry[1] if len(entry) > 1 else {}
    choices = kind if isinstance(kind, list) else options.get("options")
    if choices is not None:
        known = value in choices or where in OWN_FILES
        return "" if known else f"{value!r} is not among {choices}"
    if kind in PLAIN_TYPES and not isinstance(value, PLAIN_TYPES[kind]):
        return f"{value!r} is no {kind}"
    if kind in ("INT", "FLOAT") and not options["min"] <= value <= options["max"]:
        return f"{value} is not within {options['min']} - {options['max']}"
    return ""


def _input_problem(graph: dict[str, Any], info: dict[str, Any], node: Any, key: str) -> str:
    entry = _entries(info[node["class_type"]]).get(key)
    value = node["inputs"][key]
    if entry is None:
        return "no such input"
    if isinstance(value, list):
        wanted = "COMBO" if isinstance(entry[0], list) else entry[0]
        return _link_problem(graph, info, wanted, value)
    return _value_problem((node["class_type"], key), entry, value)


def test_there_are_workflows():
    assert "text_to_audio" in NAMES


def test_nodes_inputs_and_links_fit(name, info):
    graph = _read(WORKFLOWS / "api" / f"{name}.json")
    problems = []
    for node_id, node in graph.items():
        kind = node["class_type"]
        if kind not in info:
            problems.append(f"{node_id}: no node {kind}")
            continue
        for key in node["inputs"]:
            problem = _input_problem(graph, info, node, key)
            if problem:
                problems.append(f"{node_id} ({kind}).{key}: {problem}")
        required = info[kind]["input"].get("required", {})
        problems += [f"{node_id} ({kind}) lacks {k}" for k in required if k not in node["inputs"]]
    assert_none(problems)


def test_the_ui_form_has_the_same_nodes_and_a_thumbnail(name):
    """That both give the same graph is tested in the browser."""
    api = _read(WORKFLOWS / "api" / f"{name}.json")
    twin = page_form(name)
    assert twin.is_file(), f"make it: python -m tests.tools.make_workflows {name}"
    nodes = [node for node in _read(twin)["nodes"] if node["type"] not in NOTES]
    assert {str(n["id"]): n["type"] for n in nodes} == {k: n["class_type"] for k, n in api.items()}
    picture = page_form(name, ".jpg").read_bytes()
    assert picture.startswith(b"\xff\xd8\xff")
    assert len(picture) < 150_000


def test_the_ui_form_has_a_note_and_links_to_the_models(name):
    nodes = _read(page_form(name))["nodes"]
    (note,) = [node for node in nodes if node["type"] in NOTES]
    assert note["widgets_values"][0].startswith("# ")
    for loader in (node for node in nodes if node["type"] == "SA3LoadModel"):
        if loader["widgets_values"][0] in BUNDLED:  # nothing to download
            assert "models" not in loader["properties"]
            continue
        files = {model["name"]: model for model in loader["properties"]["models"]}
        assert files["t5gemma_b_b_ul2.safetensors"]["directory"] == "text_encoders"
        variant = loader["widgets_values"][0].replace("-", "_")
        weights = f"stable_audio_3_{variant}.safetensors"
        assert set(files) == {weights, "t5gemma_b_b_ul2.safetensors"}
        assert files[weights]["directory"] == "checkpoints"
        for file, model in files.items():  # the folder of the repository is the folder at home
            assert model["url"].endswith(f"/resolve/main/{model['directory']}/{file}")


TITLE, LEAST = 14, 8  # pixels of a node's title at full size, and the least that the page draws
PAGE = (1366, 768)
FREE = (1308, 668)  # of it beside the bars


def test_every_title_can_be_read_when_the_page_opens_the_template(name):
    """The page shows a template at three quarters of its window.

    At full size what one works with fits into it: all but notes and nodes folded to their title.
    """
    nodes = _read(page_form(name))["nodes"]
    width, height = _extent(nodes)
    zoom = min(0.75 * PAGE[0] / width, 0.75 * PAGE[1] / height)
    assert zoom * TITLE >= LEAST
    folded = [node for node in nodes if node["flags"].get("collapsed")]
    width, height = _extent([n for n in nodes if n not in folded and n["type"] not in NOTES])
    assert width <= FREE[0]
    assert height <= FREE[1]


def _extent(nodes: list[dict[str, Any]]) -> list[float]:
    """Width and height of what nodes take up."""
    boxes = [_box(node) for node in nodes]
    return [
        max(box[axis + 2] for box in boxes) - min(box[axis] for box in boxes) for axis in (0, 1)
    ]


def _box(node: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a node with its title."""
    (x, y), (width, height) = node["pos"], node["size"]
    collapsed = node.get("flags", {}).get("collapsed", False)
    return x, y - 30, x + width, y if collapsed else y + height


def test_a_form_has_its_steps_as_groups(name):
    titles = [group["title"] for group in _read(page_form(name))["groups"]]
    assert titles[0].startswith("1  Model")
    assert titles[-1].endswith("  Listen")


def test_no_form_is_left_over():
    for suffix in (".json", ".jpg"):
        forms = sorted(page_form(name, suffix) for name in NAMES)
        assert sorted(WORKFLOWS.glob(f"*{suffix}")) == forms
