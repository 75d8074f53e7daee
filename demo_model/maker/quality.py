"""How good the demo model is, by the same ears as the tests: written beside the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.demo import listening
from tests.demo.studio import PROMPTS, Studio
from tests.demo.test_time import DRUMS, end_of, in_time

from . import sounds

SEEDS = 20
LENGTHS = (1.0, 2.5, 4.0, 8.0, 12.0)


def quality(folder: Path, seeds: int = SEEDS) -> dict[str, Any]:
    """Shares of takes that are as asked: class, tempo; and dB by which the headroom lies below.

    Args:
        folder: of the model.
        seeds: takes of each prompt.
    """
    studio = Studio(folder)
    classes = {
        name: float(np.mean([listening.heard(a) == name for a in studio.many(prompt, seeds)]))
        for name, prompt in ((n, f"{p}, 108 BPM") for n, p in PROMPTS.items())
    }
    tempo = {
        str(bpm): float(
            np.mean(
                [in_time(a, bpm) for n in DRUMS for a in studio.many(f"{n}, {bpm} BPM", seeds, 6.0)]
            )
        )
        for bpm in sounds.BEATS
    }
    prompts = [f"{PROMPTS[name]}, 108 BPM" for name in ("flute", "drum beat", "guitar")] * 2
    ends = {
        str(length): float(np.median(end_of(studio, prompts, [length], list(range(6)))))
        for length in LENGTHS
    }
    return {"takes": seeds, "classes": classes, "tempo within 4 %": tempo, "headroom dB": ends}


def write_quality(folder: Path, path: Path, seeds: int = SEEDS) -> dict[str, Any]:
    """Measure and write as JSON; also returned."""
    found = quality(folder, seeds)
    rounded = json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 3))
    path.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
    return rounded
