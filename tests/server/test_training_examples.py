"""The example workflows that learn, in a real server: their own clips, the demo model, a LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sa3_core.adapters.file import read_adapter
from sa3_core.audio.file import read_audio
from tests.demo import listening
from tests.helpers.client import Run
from tests.helpers.harness import ComfyServer
from tests.tools.demo_set import fill_in
from tests.tools.example_inputs import api_workflow

SHORT = {
    ("SA3TrainLora", "steps"): 2,
    ("SA3EmptyLatent", "seconds"): 1.0,
    ("SA3Sampler", "steps"): 2,
}
TRAIN, COMPARE = "4", "15"


def run_example(comfy: ComfyServer, name: str, changes: Mapping[tuple[str, str], Any]) -> Run:
    run = comfy.client.run(fill_in(api_workflow(name), changes), timeout=900)
    assert run.status == "success", run.error
    clips = run.outputs["2"]["sa3_clips"]
    assert [clip["note"] for clip in clips] == [""] * 4
    assert clips[0]["caption"] == "flute melody, 108 BPM"
    return run


def saved(comfy: ComfyServer, run: Run) -> np.ndarray:
    (file,) = (file for output in run.outputs.values() for file in output.get("audio", ()))
    path = Path(comfy.base) / "output" / file["subfolder"] / file["filename"]
    return read_audio(path)[0].numpy()


def takes(comfy: ComfyServer, run: Run) -> list[np.ndarray]:
    shown = run.outputs[COMPARE]["sa3_takes"]
    assert [take["label"] for take in shown] == ["A", "B", "C"]
    return [read_audio(Path(comfy.base) / "temp" / take["filename"])[0].numpy() for take in shown]


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def test_a_lora_is_learnt_saved_and_used(comfy):
    run = run_example(comfy, "train_lora", SHORT)
    (told,) = run.outputs[TRAIN]["sa3_training"]
    assert (told["step"], told["total"]) == (2, 2)
    file = read_adapter(comfy.models("loras") / "my_lora_00001.safetensors")
    assert (file.adapter_type, file.rank) == ("lora", 8)
    assert saved(comfy, run).shape == (2, 44100)


def test_strengths_are_compared_from_the_same_noise(comfy):
    run = run_example(comfy, "compare_lora", SHORT)
    none, half, whole = takes(comfy, run)
    assert 1e-4 < apart(half, none) < apart(whole, none)
    assert apart(saved(comfy, run), whole) < 1e-3


@pytest.mark.soak
def test_as_they_come_they_turn_flutes_into_bells(comfy):
    run = run_example(comfy, "compare_lora", {})
    (told,) = run.outputs[TRAIN]["sa3_training"]
    assert told["step"] == 60
    none, _, whole = takes(comfy, run)
    assert listening.heard(none) == "flute"
    assert listening.heard(whole) == "bells"
    assert listening.heard(saved(comfy, run_example(comfy, "train_lora", {}))) == "bells"
