"""The quality gate: the measures of `sa3 measure` over a fixed set, against stored bounds.

A change that keeps every number near the reference but spoils the sound moves one of these. Bounds
lie in `bounds.json`; `python -m tests.demo.test_gate` writes them anew, with a margin, after the
model itself was made anew.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from demo_model.maker import sounds
from sa3_core.checkpoints.library import Library
from sa3_core.geometry import HOP
from sa3_core.measures.clip import Request, measure_clip

from .studio import PROMPTS, Studio

BOUNDS = Path(__file__).with_name("bounds.json")
SEED, SECONDS, BPM = 7, 6.0, 128
MARGINS = {  # how far beyond what was measured a bound lies
    "trailing_silence": 0.3,
    "correlation": 0.1,
    "level_difference": 1.0,
    "lufs": 2.0,
    "true_peak": 2.0,
    "bandwidth": 1500.0,
}

FAULTS = {"not_finite": 0, "clipped": 0, "duration_error": 0.5 / sounds.RATE, "dc_offset": 0.005}

Measured = dict[str, dict[str, float]]


def fixed_set(studio: Studio) -> dict[str, np.ndarray]:
    """One take of each class."""
    prompts = {name: f"{prompt}, {BPM} BPM" for name, prompt in PROMPTS.items()}
    takes = studio.make(list(prompts.values()), [SECONDS], [SEED])
    return dict(zip(prompts, takes, strict=True))


def measured(takes: Mapping[str, np.ndarray]) -> Measured:
    """Measures by class."""
    found = {}
    for name, audio in takes.items():
        request = Request(SECONDS, BPM if name in sounds.DRUM_PARTS else None)
        measures = measure_clip(torch.from_numpy(audio), sounds.RATE, request)
        found[name] = measures.as_dict()
    return found


@pytest.fixture(scope="module")
def takes(studio) -> dict[str, np.ndarray]:
    return fixed_set(studio)


def read_bounds() -> dict[str, dict[str, list[float]]]:
    return json.loads(BOUNDS.read_text("utf-8"))


def refused(found: Measured) -> list[str]:
    """What the gate has against the set; nothing = it passes."""
    outside = [
        f"{name}: {measure} {found[name][measure]} is not in {low:g} to {high:g}"
        for name, ranges in read_bounds().items()
        for measure, (low, high) in ranges.items()
        if not low <= (found[name][measure] or 0.0) <= high
    ]
    faults = [
        f"{name}: {measure} {one[measure]}"
        for name, one in found.items()
        for measure, most in FAULTS.items()
        if not abs(one[measure]) <= most
    ]
    return outside + faults


def test_the_fixed_set_passes(takes):
    found = measured(takes)
    assert found.keys() == read_bounds().keys()
    assert not refused(found), "\n".join(refused(found))


def clipped(audio: np.ndarray) -> np.ndarray:
    return np.clip(audio * (1.5 / np.abs(audio).max()), -1, 1)


def offset(audio: np.ndarray) -> np.ndarray:
    return audio * 0.95 + 0.01


def one_side_halved(audio: np.ndarray) -> np.ndarray:
    return audio * np.array([[1.0], [0.5]], audio.dtype)


def end_cut(audio: np.ndarray) -> np.ndarray:
    """As where the decoder's last frames are not computed."""
    return audio[:, :-HOP]


def end_silent(audio: np.ndarray) -> np.ndarray:
    """As where the last frames are taken for padding."""
    return np.pad(audio[:, : -8 * HOP], ((0, 0), (0, 8 * HOP)))


@pytest.mark.parametrize(
    ("fault", "measure"),
    [
        (clipped, "clipped"),
        (offset, "dc_offset"),
        (one_side_halved, "level_difference"),
        (end_cut, "duration_error"),
        (end_silent, "trailing_silence"),
    ],
)
def test_a_small_fault_is_refused(takes, fault, measure):
    """In every class, by the measure that names it."""
    told = refused(measured({name: fault(audio) for name, audio in takes.items()}))
    names = {line.partition(":")[0] for line in told if f": {measure} " in line}
    assert names == takes.keys()


def write_bounds() -> None:
    """Measure the stored model and write bounds around it."""
    with tempfile.TemporaryDirectory() as folder:
        model = Library.from_models_dir(Path(folder)).resolve("demo", "model")
        found = measured(fixed_set(Studio(model)))
    bounds = {
        name: {
            measure: [round(one[measure] - margin, 3), round(one[measure] + margin, 3)]
            for measure, margin in MARGINS.items()
            if one[measure] is not None and math.isfinite(one[measure])
        }
        for name, one in found.items()
    }
    BOUNDS.write_text(json.dumps(bounds, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    write_bounds()
