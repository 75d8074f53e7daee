"""The blueprints' files: what the tool makes of the examples and the nodes' schemas, and whole."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest

from tests.helpers import in_process
from tests.tools import prompt_box
from tests.tools.make_blueprints import (
    AROUND,
    BOXES,
    FOLDER,
    INPUT_NODE,
    OUTPUT_NODE,
    Box,
    as_text,
    input_types,
    make_blueprint,
)

EACH = pytest.mark.parametrize("box", BOXES, ids=lambda box: box.title)


@pytest.fixture(scope="module")
def types(pack: ModuleType) -> dict[tuple[str, str], str]:
    return input_types(in_process.node_classes(pack))


def text_of(box: Box) -> str:
    return (FOLDER / f"{box.title}.json").read_text(encoding="utf-8")


def test_every_file_belongs_to_a_box():
    titles = [*(box.title for box in BOXES), prompt_box.TITLE]
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(titles)


@EACH
def test_the_file_is_what_the_tool_makes(types, box):
    """Else run `python -m tests.tools.make_blueprints`."""
    assert as_text(make_blueprint(box, types)) == text_of(box)


def test_the_prompt_box_is_what_the_tool_makes():
    path = FOLDER / f"{prompt_box.TITLE}.json"
    assert as_text(prompt_box.make_prompt_box()) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("title", [*(box.title for box in BOXES), prompt_box.TITLE])
def test_links_and_slots_agree(title):
    text = (FOLDER / f"{title}.json").read_text(encoding="utf-8")
    (subgraph,) = json.loads(text)["definitions"]["subgraphs"]
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    ids = [link["id"] for link in subgraph["links"]]
    assert len(set(ids)) == len(ids)
    for link in subgraph["links"]:
        source, target = link["origin_id"], link["target_id"]
        out = subgraph["inputs"] if source == INPUT_NODE else nodes[source]["outputs"]
        given = out[link["origin_slot"]]
        assert link["id"] in given.get("linkIds", given.get("links"))
        assert given["type"] == link["type"]
        if target == OUTPUT_NODE:
            assert subgraph["outputs"][link["target_slot"]]["linkIds"] == [link["id"]]
            continue
        taken = nodes[target]["inputs"][link["target_slot"]]
        assert (taken["link"], taken["type"]) == (link["id"], link["type"])
    assert not [n for n in nodes.values() if n["type"] in AROUND]


@EACH
def test_the_box_shows_what_its_job_needs(types, box):
    workflow: dict[str, Any] = json.loads(text_of(box))
    (node,), (subgraph,) = workflow["nodes"], workflow["definitions"]["subgraphs"]
    assert node["type"] == subgraph["id"]
    shown = [slot["name"] for slot in node["inputs"]]
    wanted = [name for name, *_ in box.inputs]
    assert shown == [slot["name"] for slot in subgraph["inputs"]]
    assert [name for name in shown if name != "audio"] == wanted
    assert {"prompt", "seed", "model"} <= set(wanted)
    assert len(wanted) <= 6
    assert [slot["type"] for slot in node["outputs"]] == ["AUDIO"]
    assert subgraph["category"].startswith("Audio/")
    assert "stable audio" in workflow["extra"]["BlueprintSearchAliases"]
