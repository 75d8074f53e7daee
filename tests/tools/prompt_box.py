"""The blueprint that rewrites a short wish through a language model that ComfyUI runs itself.

Its nodes are ComfyUI's own (Custom Combo, Extract from JSON, Replace Text, Generate Text), as in
the official templates; only what the language model is told is ours.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

TITLE = "Write the Prompt"
CATEGORY = "Audio/Stable Audio 3"
ABOUT = (
    "Rewrites a short wish into a prompt for Stable Audio 3 through a language model in "
    "models/text_encoders. Connect it to the prompt of Make Sound from Text or of Text Encode."
)
ALIASES = ("prompt help", "rewrite prompt", "enhance prompt", "llm", "stable audio")
WISH = "USER_WISH"
LANGUAGE_MODEL = {
    "name": "qwen3.5_2b_bf16.safetensors",
    "url": "https://huggingface.co/Comfy-Org/Qwen3.5/resolve/main/text_encoders/"
    "qwen3.5_2b_bf16.safetensors",
    "directory": "text_encoders",
}
_TASK = """You write prompts for a model that makes {sound}.
Turn the wish into one prompt in English. Keep all that it says and add only what fits it.
Form: {form}
Example: {example}
Answer with the prompt alone, on one line, without quotes and without explanations.
No singing and no lyrics.

Wish: """
_KINDS = {
    "Music": (
        "whole instrumental pieces of music",
        "TrackType: Music, VocalType: Instrumental, Genre: one or two, Instruments: three to five "
        "with an adjective each. Mood and energy in a few words, the tempo as a number of BPM. A "
        "sentence about how it goes on and how it was recorded.",
        "TrackType: Music, VocalType: Instrumental, Genre: Lo-fi, Instruments: warm Rhodes piano, "
        "upright bass, brushed drums. Calm, nostalgic, 82 BPM. A slow evening groove with tape "
        "hiss that opens into a bright second half.",
    ),
    "Instrument": (
        "a single instrument or a stem",
        "TrackType: Instrument, Genre: one, Instruments: the instrument with an adjective. How it "
        "is played, mood, the tempo as a number of BPM, and how near and in what room it is heard.",
        "TrackType: Instrument, Genre: Flamenco, Instruments: nylon-string guitar. Quick "
        "fingerpicked runs, passionate, 110 BPM. Close microphone, small wooden room.",
    ),
    "SFX": (
        "sound effects and ambiences",
        "TrackType: SFX. What sounds and of what material, then how it begins, moves and "
        "ends, then "
        "how near it is and in what space.",
        "TrackType: SFX. Heavy oak door creaks open slowly, then slams with a deep thud that rings "
        "through a stone hallway. Close, dry attack, long reverb.",
    ),
    "One-shot": (
        "single hits and notes for samplers",
        "TrackType: Instrument, One-shot. The instrument or source and how it is struck, "
        "its material and "
        "timbre, dry or with room.",
        "TrackType: Instrument, One-shot. Snare drum rimshot with crisp wires, tight "
        "wooden body, dry and "
        "close.",
    ),
}
CATEGORIES = tuple(_KINDS)
_MOST_TOKENS = 200  # the text encoder reads 256


def tasks() -> dict[str, str]:
    """What the language model is told, by category, with WISH where the wish stands."""
    return {
        kind: _TASK.format(sound=sound, form=form, example=example) + WISH + "\nPrompt:"
        for kind, (sound, form, example) in _KINDS.items()
    }


def _identifier(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("ComfyUI-SA3", "blueprint", *parts))))


_COMBO, _JSON, _REPLACE, _LOADER, _WRITE = 1, 2, 3, 4, 5
_IN, _OUT = -10, -20
_SAMPLING = (
    *(("temperature", "FLOAT"), ("top_k", "INT"), ("top_p", "FLOAT"), ("min_p", "FLOAT")),
    *(("repetition_penalty", "FLOAT"), ("seed", "INT"), ("presence_penalty", "FLOAT")),
)
Slots = list[tuple[str, str, bool]]  # name, type, whether it is a widget


def _nodes() -> list[dict[str, Any]]:
    text: Slots = [("string", "STRING", True), ("find", "STRING", True)]
    writing: Slots = [
        ("clip", "CLIP", False),
        *((name, kind, False) for name, kind in (("image", "IMAGE"), ("video", "IMAGE"))),
        *(("audio", "AUDIO", False), ("prompt", "STRING", True), ("max_length", "INT", True)),
        ("sampling_mode", "COMFY_DYNAMICCOMBO_V3", True),
        *((f"sampling_mode.{name}", kind, True) for name, kind in _SAMPLING),
        *(("thinking", "BOOLEAN", True), ("use_default_template", "BOOLEAN", True)),
    ]
    said = json.dumps(tasks(), indent=1, ensure_ascii=False)
    return [
        _node(_COMBO, "CustomCombo", (0, 0), [("choice", "COMBO", True)], ("STRING", "INT"),
              [CATEGORIES[0], 0, *CATEGORIES, ""]),
        _node(_JSON, "JsonExtractString", (320, 0),
              [("json_string", "STRING", True), ("key", "STRING", True)], ("STRING",), [said, ""]),
        _node(_REPLACE, "StringReplace", (640, 0), [*text, ("replace", "STRING", True)],
              ("STRING",), ["", WISH, ""]),
        _node(_LOADER, "CLIPLoader", (640, 320),
              [(name, "COMBO", True) for name in ("clip_name", "type", "device")], ("CLIP",),
              [LANGUAGE_MODEL["name"], "stable_diffusion", "default"]),
        _node(_WRITE, "TextGenerate", (960, 0), writing, ("STRING",),
              ["", _MOST_TOKENS, "on", 0.7, 64, 0.95, 0.05, 1.05, 0, 0.0, False, True]),
    ]  # fmt: skip


def _node(
    node_id: int,
    kind: str,
    place: tuple[int, int],
    inputs: Slots,
    outputs: tuple[str, ...],
    values: list[Any],
) -> dict[str, Any]:
    models = {"models": [LANGUAGE_MODEL]} if kind == "CLIPLoader" else {}
    return {
        **{"id": node_id, "type": kind, "pos": list(place), "size": [280, 220], "flags": {}},
        **{"order": node_id - 1, "mode": 0},
        "inputs": [
            {"name": name, "type": type_, "link": None}
            | ({"widget": {"name": name}} if is_widget else {"shape": 7})
            for name, type_, is_widget in inputs
        ],
        "outputs": [{"name": type_, "type": type_, "links": None} for type_ in outputs],
        "properties": {"Node name for S&R": kind, **models},
        "widgets_values": values,
    }


# (from, its slot, to, its input's name, type); the box's own slots by number
_LINKS = (
    (_COMBO, 0, _JSON, "key", "STRING"),
    (_JSON, 0, _REPLACE, "string", "STRING"),
    (_REPLACE, 0, _WRITE, "prompt", "STRING"),
    (_LOADER, 0, _WRITE, "clip", "CLIP"),
    (_IN, 0, _REPLACE, "replace", "STRING"),
    (_IN, 1, _COMBO, "choice", "COMBO"),
    (_IN, 2, _WRITE, "sampling_mode.seed", "INT"),
    (_IN, 3, _LOADER, "clip_name", "COMBO"),
    (_WRITE, 0, _OUT, "prompt", "STRING"),
)
SHOWN = (("wish", "STRING"), ("category", "COMBO"), ("seed", "INT"), ("language model", "COMBO"))


def make_prompt_box() -> dict[str, Any]:
    """A workflow of the one box, as the page publishes it."""
    nodes = {node["id"]: node for node in _nodes()}
    inputs: list[dict[str, Any]] = [
        {"id": _identifier(TITLE, name), "name": name, "type": kind, "linkIds": []}
        | {"pos": [-160, 20 * (number + 1)]}
        for number, (name, kind) in enumerate(SHOWN)
    ]
    output: dict[str, Any] = {"id": _identifier(TITLE, "out"), "name": "prompt"}
    output |= {"type": "STRING", "linkIds": [], "pos": [1424, 20]}
    links: list[dict[str, Any]] = []
    proxies: list[list[str]] = []
    for number, (origin, slot, target, name, kind) in enumerate(_LINKS, 1):
        given: dict[str, Any] = inputs[slot] if origin == _IN else nodes[origin]["outputs"][slot]
        key = "linkIds" if origin == _IN else "links"
        given[key] = [*(given[key] or []), number]
        place = 0
        if target == _OUT:
            output["linkIds"].append(number)
        else:
            taken = nodes[target]["inputs"]
            (place,) = [i for i, entry in enumerate(taken) if entry["name"] == name]
            taken[place]["link"] = number
        if origin == _IN:
            proxies.append([str(target), name])
        ends = {"origin_id": origin, "origin_slot": slot, "target_id": target}
        links.append({"id": number, **ends, "target_slot": place, "type": kind})
    subgraph = {
        **{"id": _identifier(TITLE), "version": 1, "revision": 0, "config": {}},
        "state": {
            **{"lastGroupId": 0, "lastRerouteId": 0},
            **{"lastNodeId": len(nodes), "lastLinkId": len(links)},
        },
        "name": TITLE,
        "inputNode": {"id": _IN, "bounding": [-288, 0, 128, 120]},
        "outputNode": {"id": _OUT, "bounding": [1400, 0, 128, 60]},
        **{"inputs": inputs, "outputs": [output], "widgets": []},
        **{"nodes": list(nodes.values()), "groups": [], "links": links},
        "extra": {"BlueprintDescription": ABOUT, "BlueprintSearchAliases": list(ALIASES)},
        **{"category": CATEGORY, "description": ABOUT},
    }
    sockets = [
        {"name": name, "type": kind, "link": None, "widget": {"name": name}} for name, kind in SHOWN
    ]
    node = {
        **{"id": 1, "type": subgraph["id"], "pos": [0, 0], "size": [340, 260], "flags": {}},
        **{"order": 0, "mode": 0, "inputs": sockets, "title": TITLE},
        "outputs": [{"name": "prompt", "type": "STRING", "links": []}],
        **{"properties": {"proxyWidgets": proxies}, "widgets_values": []},
    }
    return {
        **{"id": _identifier(TITLE, "workflow"), "revision": 0},
        **{"last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [], "version": 0.4},
        **{"definitions": {"subgraphs": [subgraph]}, "extra": dict(subgraph["extra"])},
    }
