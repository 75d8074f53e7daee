"""What a user of the example workflows brings: a sound to edit and LoRA files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import format_for
from tests.helpers.harness import ComfyServer
from tests.helpers.support import GOLDEN, ROOT

WORKFLOWS = ROOT / "example_workflows"
API = WORKFLOWS / "api"
LORA = GOLDEN / "tiny-m" / "adapter_lora.safetensors"
RATE = 44100
SECONDS = 10


def api_workflow(name: str) -> dict[str, dict]:
    """An example in API form."""
    return json.loads((API / f"{name}.json").read_text("utf-8"))


def workflow_names() -> list[str]:
    """Every example."""
    return sorted(path.stem for path in API.glob("*.json"))


def write_example_inputs(server: ComfyServer) -> None:
    """Put every file that an example names where it is looked for."""
    (server.base / "input").mkdir(parents=True, exist_ok=True)
    for name in _names("LoadAudio", "audio"):
        _write_sound(server.base / "input" / name)
    for name in _names("SA3LoraLoader", "lora"):
        shutil.copy(LORA, server.models("loras") / name)


def _names(kind: str, key: str) -> set[str]:
    nodes = [node for name in workflow_names() for node in api_workflow(name).values()]
    return {node["inputs"][key] for node in nodes if node["class_type"] == kind}


def _write_sound(path: Path) -> None:
    """A fading chord."""
    time = torch.arange(SECONDS * RATE) / RATE
    chord = sum(torch.sin(2 * torch.pi * pitch * time) for pitch in (220.0, 277.2, 329.6))
    sound = 0.2 * chord * torch.exp(-(time % 2))
    write_audio(path, sound.expand(2, -1), RATE, format_for(path), {})
