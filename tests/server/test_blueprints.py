"""The server hands the blueprints out to the page's node library."""

from __future__ import annotations

import json

from tests.tools.make_blueprints import BOXES, FOLDER


def test_the_server_lists_them_with_their_content(comfy):
    listed = comfy.client.get("/global_subgraphs")
    own = {
        entry["name"]: identifier
        for identifier, entry in listed.items()
        if entry["info"]["node_pack"] == "custom_nodes.ComfyUI-SA3"
    }
    assert sorted(own) == sorted(box.title for box in BOXES)
    for title, identifier in own.items():
        data = comfy.client.get(f"/global_subgraphs/{identifier}")["data"]
        on_disk = (FOLDER / f"{title}.json").read_text(encoding="utf-8")
        assert json.loads(data) == json.loads(on_disk)
