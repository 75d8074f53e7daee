"""The example workflows' files, and what a user of them brings: LoRA files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.helpers.harness import ComfyServer
from tests.helpers.support import GOLDEN, ROOT

WORKFLOWS = ROOT / "example_workflows"
API = WORKFLOWS / "api"
LORA = GOLDEN / "tiny-m" / "adapter_lora.safetensors"
LORA_NAME = "example_lora.safetensors"  # of the copy that the page is offered
TITLES = {  # what the page's template browser shows, and searches: the names of the page's forms
    "text_to_audio": "Text to Audio",
    "audio_to_audio": "Audio to Audio",
    "inpaint_one_region": "Make a Part Anew",
    "inpaint_several_regions": "Make Several Parts Anew",
    "continue_audio": "Continue a Sound",
    "extend_long": "Extend Past the Maximum",
    "loop": "Seamless Loop",
    "batch_of_prompts": "Batch of Prompts",
    "two_loras": "Two LoRAs",
    "train_lora": "Train a LoRA",
    "compare_lora": "Train and Compare Strengths",
}


def api_workflow(name: str) -> dict[str, dict]:
    """An example in API form."""
    return json.loads((API / f"{name}.json").read_text("utf-8"))


def with_defaults(graph: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """The graph with every widget that API callers may leave out; the page always sends them.

    Args:
        graph: in API form; it is filled in place.
        info: what the server says of its nodes.
    """
    for node in graph.values():
        for key, (_, options, *_) in info[node["class_type"]]["input"].get("optional", {}).items():
            if "default" in options:
                node["inputs"].setdefault(key, options["default"])
    return graph


def page_form(name: str, suffix: str = ".json") -> Path:
    """An example as the page opens it, or with `.jpg` its picture."""
    return WORKFLOWS / f"Stable Audio 3 - {TITLES[name]}{suffix}"


def workflow_names() -> list[str]:
    """Every example."""
    return sorted(path.stem for path in API.glob("*.json"))


def write_example_inputs(server: ComfyServer) -> None:
    """What a user of the examples brings: a LoRA. The examples name no file but their own clip."""
    shutil.copy(LORA, server.models("loras") / LORA_NAME)
