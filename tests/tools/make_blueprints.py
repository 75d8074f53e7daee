"""Make the blueprints: each job of the example workflows as one box for the node library.

    python -m tests.tools.make_blueprints

Reads the example workflows of the page (see make_workflows) and the nodes' schemas, and writes
subgraphs/TITLE.json in the form that the page publishes blueprints in. A box holds what lies
between the source and Save Audio; it shows only the inputs that its job needs, and can be unpacked.
"""

# ruff: noqa: T201 - a command, it prints

from __future__ import annotations

import json
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers import in_process
from tests.helpers.support import ROOT
from tests.tools import prompt_box
from tests.tools.example_inputs import page_form

FOLDER = ROOT / "subgraphs"
CATEGORY = "Audio/Stable Audio 3"
AROUND = ("LoadAudio", "SA3SaveAudio", "MarkdownNote")  # what stays outside of a box
INPUT_NODE, OUTPUT_NODE = -10, -20  # ids of the page
BOX_WIDTH, ROW, GAP, EDGE = 340, 20, 160, 128


@dataclass(frozen=True)
class Box:
    """One blueprint.

    Attributes:
        title: name in the node library and of the box.
        workflow: the example that it is made of.
        about: what it does, one sentence.
        aliases: words that find it.
        inputs: (name on the box, type of the node inside, its widget), in the order shown.
        without: id of a node inside that is left out; what it passes on goes past it.
    """

    title: str
    workflow: str
    about: str
    aliases: tuple[str, ...]
    inputs: tuple[tuple[str, str, str], ...]
    without: int | None = None


_MODEL = ("model", "SA3LoadModel", "model")
_PROMPT = ("prompt", "SA3TextEncode", "text")
_SEED = ("seed", "SA3Sampler", "seed")
_DURATION = ("seconds", "SA3EmptyLatent", "seconds")

BOXES = (
    Box(
        "Make Sound from Text",
        "text_to_audio",
        "Makes music or a sound effect of a prompt with Stable Audio 3. Connect Save Audio.",
        ("text to audio", "text to music", "sound effect", "stable audio", "generate music"),
        (_PROMPT, _DURATION, _SEED, _MODEL),
    ),
    Box(
        "Restyle a Sound",
        "audio_to_audio",
        "Turns a sound into what the prompt says; denoise tells how far it may go from the source.",
        ("audio to audio", "style transfer", "cover", "stable audio"),
        (_PROMPT, ("denoise", "SA3Sampler", "denoise"), _SEED, _MODEL),
    ),
    Box(
        "Replace a Part",
        "inpaint_one_region",
        "Makes regions of a sound anew, such as 4-8 or 0:16.5-0:20; the rest stays bit for bit.",
        ("inpaint", "repair", "regions", "edit audio", "stable audio"),
        (_PROMPT, ("regions", "SA3InpaintMask", "regions"), _SEED, _MODEL),
    ),
    Box(
        "Continue",
        "continue_audio",
        "Adds seconds to the end or before the start of a sound; its own samples stay as they are.",
        ("extend", "outpaint", "longer", "continue audio", "stable audio"),
        (
            _PROMPT,
            ("seconds", "SA3ContinueAudio", "seconds"),
            ("where", "SA3ContinueAudio", "where"),
            _SEED,
            _MODEL,
        ),
    ),
    Box(
        "Make a Loop",
        "loop",
        "Makes a seamless loop of a number of bars out of a sound.",
        ("loop", "seamless", "bars", "stable audio"),
        (_PROMPT, ("bars", "SA3Loop", "bars"), ("bpm", "SA3Loop", "bpm"), _SEED, _MODEL),
    ),
    Box(
        "Use LoRA",
        "two_loras",
        "Makes sound of a prompt with a LoRA from models/loras.",
        ("lora", "style", "text to audio", "stable audio"),
        (
            _PROMPT,
            ("lora", "SA3LoraLoader", "lora"),
            ("strength", "SA3LoraLoader", "strength"),
            _DURATION,
            _SEED,
            _MODEL,
        ),
        without=3,
    ),
)

Node = dict[str, Any]
Link = dict[str, Any]


def _identifier(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("ComfyUI-SA3", "blueprint", *parts))))


def _read(box: Box) -> tuple[list[Node], list[Link]]:
    """Nodes and links of the example; links as the page keeps them in subgraphs."""
    workflow = json.loads(page_form(box.workflow).read_text(encoding="utf-8"))
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(keys, link, strict=True)) for link in workflow["links"]]
    return workflow["nodes"], links


def _leave_out(node_id: int | None, links: list[Link]) -> list[Link]:
    """Links that went out of a node start where what it took in came from."""
    taken = {link["type"]: link for link in links if link["target_id"] == node_id}
    kept = [link for link in links if link["target_id"] != node_id]
    for link in kept:
        if link["origin_id"] == node_id:
            source = taken[link["type"]]
            link |= {key: source[key] for key in ("origin_id", "origin_slot")}
    return kept


def _slot(name: str, kind: str, links: list[int], box: Box, place: tuple[float, float]) -> Node:
    """An input or output of the box, seen from inside."""
    identifier = _identifier(box.title, name, kind)
    return {"id": identifier, "name": name, "type": kind, "linkIds": links, "pos": list(place)}


class _Inside:
    """The subgraph of a box while it is built."""

    def __init__(self, box: Box, types: dict[tuple[str, str], str]) -> None:
        nodes, links = _read(box)
        self.box, self.types = box, types
        outside = {n["id"]: n["type"] for n in nodes if n["type"] in AROUND}
        outside |= {box.without: ""} if box.without else {}
        self.nodes = [node for node in nodes if node["id"] not in outside]
        links = _leave_out(box.without, links)
        sources = [i for i, kind in outside.items() if kind == "LoadAudio"]
        sinks = [i for i, kind in outside.items() if kind == "SA3SaveAudio"]
        self.source = [link for link in links if link["origin_id"] in sources]
        self.made = [link for link in links if link["target_id"] in sinks]
        self.links = [link for link in links if link not in self.source and link not in self.made]
        self.right = max(node["pos"][0] + node["size"][0] for node in self.nodes)
        self.proxies: list[list[str]] = []
        self.inputs: list[Node] = []

    def _place(self) -> tuple[float, float]:
        return (-GAP, ROW * (len(self.inputs) + 1))

    def take_audio(self) -> None:
        """The box takes the sound that Load Audio gave."""
        for link in self.source:
            link |= {"origin_id": INPUT_NODE, "origin_slot": 0}
        self.links += self.source
        ids = [link["id"] for link in self.source]
        self.inputs.append(_slot("audio", "AUDIO", ids, self.box, self._place()))

    def show(self, name: str, node_type: str, widget: str) -> None:
        """The box shows a widget of a node inside."""
        (node,) = [node for node in self.nodes if node["type"] == node_type]
        kind = self.types[node_type, widget]
        link = {
            **{"id": 1 + max(link["id"] for link in [*self.links, *self.made])},
            **{"origin_id": INPUT_NODE, "origin_slot": len(self.inputs)},
            **{"target_id": node["id"], "target_slot": len(node["inputs"]), "type": kind},
        }
        node["inputs"].append(
            {"name": widget, "type": kind, "widget": {"name": widget}, "link": link["id"]}
        )
        self.links.append(link)
        self.proxies.append([str(node["id"]), widget])
        self.inputs.append(_slot(name, kind, [link["id"]], self.box, self._place()))

    def _relink(self) -> None:
        """What nodes say of their links, by the links."""
        for node in self.nodes:
            for slot, output in enumerate(node["outputs"]):
                here = (node["id"], slot)
                starts = [x["id"] for x in self.links if (x["origin_id"], x["origin_slot"]) == here]
                output["links"] = starts or None

    def finish(self) -> Node:
        """The subgraph's definition."""
        (made,) = self.made
        made |= {"target_id": OUTPUT_NODE, "target_slot": 0}
        self.links.append(made)
        self._relink()
        place = (self.right + GAP - EDGE + 24, ROW)
        return {
            **{"id": _identifier(self.box.title), "version": 1, "revision": 0, "config": {}},
            "state": {
                **{"lastGroupId": 0, "lastRerouteId": 0},
                "lastNodeId": max(node["id"] for node in self.nodes),
                "lastLinkId": max(link["id"] for link in self.links),
            },
            "name": self.box.title,
            "inputNode": {"id": INPUT_NODE, "bounding": self._bounds(-GAP - EDGE, self.inputs)},
            "outputNode": {"id": OUTPUT_NODE, "bounding": self._bounds(self.right + GAP, [made])},
            "inputs": self.inputs,
            "outputs": [_slot("audio", "AUDIO", [made["id"]], self.box, place)],
            **{"widgets": [], "nodes": self.nodes, "groups": [], "links": self.links},
            "extra": {
                "BlueprintDescription": self.box.about,
                "BlueprintSearchAliases": list(self.box.aliases),
            },
            **{"category": CATEGORY, "description": self.box.about},
        }

    @staticmethod
    def _bounds(left: float, slots: list[Node]) -> list[float]:
        return [left, 0, EDGE, ROW * len(slots) + 2 * ROW]


def make_blueprint(box: Box, types: dict[tuple[str, str], str]) -> dict[str, Any]:
    """A workflow of one box, as the page publishes it.

    Args:
        box: what it is made of.
        types: type of each input by (node id, input id).
    """
    inside = _Inside(box, types)
    if inside.source:
        inside.take_audio()
    for shown in box.inputs:
        inside.show(*shown)
    subgraph = inside.finish()
    sockets = [
        {"name": slot["name"], "type": slot["type"], "link": None}
        | ({"widget": {"name": slot["name"]}} if slot["name"] != "audio" else {})
        for slot in subgraph["inputs"]
    ]
    node = {
        **{"id": 1, "type": subgraph["id"], "pos": [0, 0], "size": [BOX_WIDTH, 380], "flags": {}},
        **{"order": 0, "mode": 0, "inputs": sockets},
        "outputs": [{"name": "audio", "type": "AUDIO", "links": []}],
        **{"title": box.title, "properties": {"proxyWidgets": inside.proxies}},
        "widgets_values": [],
    }
    return {
        **{"id": _identifier(box.title, "workflow"), "revision": 0},
        **{"last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [], "version": 0.4},
        "definitions": {"subgraphs": [subgraph]},
        "extra": dict(subgraph["extra"]),
    }


def input_types(classes: list[type[Any]]) -> dict[tuple[str, str], str]:
    """Type of every input of the nodes, by (node id, input id)."""
    schemas = [node.define_schema() for node in classes]
    return {(s.node_id, i.id): i.get_io_type() for s in schemas for i in s.inputs}


def as_text(blueprint: dict[str, Any]) -> str:
    """What its file holds."""
    return json.dumps(blueprint, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as base:
        in_process.import_comfyui(Path(base))
        types = input_types(in_process.node_classes(in_process.import_pack()))
    FOLDER.mkdir(exist_ok=True)
    for box in BOXES:
        path = FOLDER / f"{box.title}.json"
        path.write_text(as_text(make_blueprint(box, types)), encoding="utf-8", newline="\n")
        print(path)
    path = FOLDER / f"{prompt_box.TITLE}.json"
    text = as_text(prompt_box.make_prompt_box())
    path.write_text(text, encoding="utf-8", newline="\n")
    print(path)


if __name__ == "__main__":
    main()
