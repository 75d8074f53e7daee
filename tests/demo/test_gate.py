"""The quality gate: the measures of `sa3 measure` over a fixed set, against stored bounds.

A change that keeps every number near the reference but spoils the sound moves one of these. Bounds
lie in `bounds.json`; `python -m tests.demo.test_gate` writes them anew, with a margin, after the
model itself was made anew.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import pytest
import torch

from demo_model.maker import sounds
from sa3_core.checkpoints.library import Library
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

Measured = dict[str, dict[str, float]]


def measured(studio: Studio) -> Measured:
    """Measures by class, of one take each."""
    prompts = {name: f"{prompt}, {BPM} BPM" for name, prompt in PROMPTS.items()}
    takes = studio.make(list(prompts.values()), [SECONDS], [SEED])
    found = {}
    for name, audio in zip(prompts, takes, strict=True):
        request = Request(SECONDS, BPM if name in sounds.DRUM_PARTS else None)
        measures = measure_clip(torch.from_numpy(audio), sounds.RATE, request)
        found[name] = measures.as_dict()
    return found


@pytest.fixture(scope="module")
def found(studio) -> Measured:
    return measured(studio)


def test_the_fixed_set_stays_within_its_bounds(found):
    bounds: dict[str, dict[str, list[float]]] = json.loads(BOUNDS.read_text("utf-8"))
    assert found.keys() == bounds.keys()
    outside = [
        f"{name}: {measure} {found[name][measure]} is not in {low:g} to {high:g}"
        for name, ranges in bounds.items()
        for measure, (low, high) in ranges.items()
        if not low <= (found[name][measure] or 0.0) <= high
    ]
    assert not outside, "\n".join(outside)


def test_the_fixed_set_has_no_fault(found):
    for name, one in found.items():
        assert one["not_finite"] == one["clipped"] == 0, name
        assert abs(one["duration_error"]) < 1 / sounds.RATE, name
        assert abs(one["dc_offset"]) < 0.005, name


def write_bounds() -> None:
    """Measure the stored model and write bounds around it."""
    with tempfile.TemporaryDirectory() as folder:
        model = Library.from_models_dir(Path(folder)).resolve("demo", "model")
        found = measured(Studio(model))
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
