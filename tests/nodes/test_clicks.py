"""The table of nodes, links and clicks per job (docs/comparison.md) is what the files hold."""

from __future__ import annotations

import json
import re

import pytest

from tests.helpers.support import ROOT, comfyui_root
from tests.tools.example_inputs import api_workflow
from tests.tools.make_blueprints import BOXES, FOLDER, Box

PAGE = ROOT / "docs" / "comparison.md"
STOCK = "blueprints/Audio Generation (Stable Audio 3 Medium).json"
CAN_MAKE = "Make Sound from Text"  # the one job that ComfyUI has a blueprint for
NONE = "none"


def told(nodes: int, links: int) -> str:
    """One cell: a node is one click (found by its name), a link one drag, and Run is the last."""
    return f"{nodes} / {links} / {nodes + links + 1}"


def node_by_node(box: Box) -> str:
    """The job's graph put together of single nodes; what the box leaves out is left out."""
    graph = api_workflow(box.workflow)
    nodes = {name: node for name, node in graph.items() if name != str(box.without)}
    links = sum(isinstance(v, list) for node in nodes.values() for v in node["inputs"].values())
    return told(len(nodes), links)


def boxed(blueprint: dict) -> str:
    """A box, Save Audio, and Load Audio where the box takes a sound."""
    (box,) = blueprint["nodes"]
    (subgraph,) = blueprint["definitions"]["subgraphs"]
    assert box["type"] == subgraph["id"]
    assert [slot["type"] for slot in subgraph["outputs"]] == ["AUDIO"]
    sounds = [slot for slot in subgraph["inputs"] if slot["type"] == "AUDIO"]
    return told(2 + len(sounds), 1 + len(sounds))


def rows() -> dict[str, list[str]]:
    """Cells of the table by job."""
    found = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {job: cells.split(" | ") for job, cells in found}


def test_every_job_has_a_row():
    assert sorted(rows()) == sorted(box.title for box in BOXES)


@pytest.mark.parametrize("box", BOXES, ids=lambda box: box.title)
def test_a_row_is_counted_from_the_files(box):
    before, after, stock = rows()[box.title]
    assert before == node_by_node(box)
    assert after == boxed(json.loads((FOLDER / f"{box.title}.json").read_text("utf-8")))
    file = comfyui_root() / STOCK
    if box.title != CAN_MAKE:
        assert stock == NONE
    elif file.is_file():  # newer ComfyUI brings it
        assert stock == boxed(json.loads(file.read_text("utf-8")))
