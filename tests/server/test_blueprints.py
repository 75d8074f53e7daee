"""The server hands the blueprints out to the page's node library."""

from __future__ import annotations

import json

import pytest

from tests.tools import prompt_box
from tests.tools.make_blueprints import BOXES, FOLDER


def test_the_server_lists_them_with_their_content(comfy):
    listed = comfy.client.get("/global_subgraphs")
    own = {
        entry["name"]: identifier
        for identifier, entry in listed.items()
        if entry["info"]["node_pack"] == "custom_nodes.ComfyUI-SA3"
    }
    assert sorted(own) == sorted([*(box.title for box in BOXES), prompt_box.TITLE])
    for title, identifier in own.items():
        data = comfy.client.get(f"/global_subgraphs/{identifier}")["data"]
        on_disk = (FOLDER / f"{title}.json").read_text(encoding="utf-8")
        assert json.loads(data) == json.loads(on_disk)


def test_the_prompt_box_is_made_of_nodes_that_the_server_has(comfy):
    info = comfy.client.object_info()
    (subgraph,) = prompt_box.make_prompt_box()["definitions"]["subgraphs"]
    for node in subgraph["nodes"]:
        groups = info[node["type"]]["input"].values()
        known = {name: entry for group in groups for name, entry in group.items()}
        for slot in node["inputs"]:
            name, _, part = slot["name"].partition(".")
            assert name in known, f"{node['type']} has no {name}"
            if part:
                chosen = {option["key"]: option for option in known[name][1]["options"]}["on"]
                parts = [p for group in chosen["inputs"].values() for p in group]
                assert part in parts
        outputs = [slot["type"] for slot in node["outputs"]]
        assert outputs == info[node["type"]]["output"]


@pytest.mark.parametrize("category", prompt_box.CATEGORIES)
def test_the_language_model_is_told_the_category_and_the_wish(comfy, category):
    """All of the box but the language model itself, whose weights tests do not have."""
    nodes = {
        node["type"]: node
        for node in prompt_box.make_prompt_box()["definitions"]["subgraphs"][0]["nodes"]
    }
    told = nodes["JsonExtractString"]["widgets_values"][0]
    find = nodes["StringReplace"]["widgets_values"][1]
    graph = {
        "1": {"class_type": "CustomCombo", "inputs": {"choice": category}},
        "2": {
            "class_type": "JsonExtractString",
            "inputs": {"json_string": told, "key": ["1", 0]},
        },
        "3": {
            "class_type": "StringReplace",
            "inputs": {"string": ["2", 0], "find": find, "replace": "rain on a tent"},
        },
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
    }
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    (text,) = run.outputs["4"]["text"]
    assert text == prompt_box.tasks()[category].replace(prompt_box.WISH, "rain on a tent")
    assert "Wish: rain on a tent\nPrompt:" in text
    assert "TrackType: " in text
