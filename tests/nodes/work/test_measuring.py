"""Measure Audio in process: what it tells of sounds that were made for it."""

from __future__ import annotations

import importlib
import json
import math
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

RATE = 44100


@pytest.fixture(scope="module")
def measure(pack: ModuleType) -> Any:
    """measure(waveform, **inputs) -> the node's output."""
    node = importlib.import_module("sa3_pack.nodes.listening").SA3MeasureAudio
    hidden = SimpleNamespace(unique_id="1", prompt=None, extra_pnginfo=None)
    prepared = type("Prepared", (node,), {"hidden": hidden})

    def run(waveform: torch.Tensor, **inputs: Any) -> Any:
        return prepared.execute({"waveform": waveform, "sample_rate": RATE}, **inputs)

    return run


def clicks(bpm: float, seconds: float = 4.0) -> torch.Tensor:
    """[2, N]: a short tone at every beat."""
    time = torch.arange(round(seconds * RATE)) / RATE
    since = torch.remainder(time, 60 / bpm)
    hit = 0.5 * torch.exp(-since * 60) * torch.sin(2 * math.pi * 900 * since)
    return hit.expand(2, -1).clone()


def test_a_clip_is_told_in_numbers_text_and_a_picture(measure, comfyui):
    out = measure(clicks(120)[None], prompt="clicks, 125 BPM", seconds=5.0, loop=True)
    audio, table, lines, lufs, true_peak, bpm, sound_end, image = out.args
    assert audio["waveform"].shape == (1, 2, 4 * RATE)
    (values,) = (json.loads(line) for line in lines)
    assert bpm == [pytest.approx(120, rel=0.005)]
    assert values["tempo_error"] == pytest.approx(120 / 125 - 1, abs=0.005)
    assert values["duration_error"] == pytest.approx(-1.0)
    assert values["loop_jump"] is not None
    assert values["seam_jump"] is None
    assert lufs == [values["lufs"]]
    assert true_peak == [values["true_peak"]]
    assert sound_end == [values["sound_end"]]
    assert "| bpm | 1 | 120" in table
    (line,) = out.ui["text"]
    assert line.startswith("4.00 s, -1.00 s against what was asked")
    assert f"tempo {values['tempo_error']:+.1%} against what was asked" in line
    drawn = np.asarray(Image.open(comfyui / "temp" / out.ui["images"][0]["filename"]))
    assert image.shape == (1, *drawn.shape)
    assert torch.equal((image[0] * 255).round().to(torch.uint8), torch.from_numpy(drawn.copy()))


def test_each_item_of_a_batch_has_its_numbers(measure):
    batch = torch.stack([clicks(100), clicks(100) * 0.1, torch.zeros(2, 4 * RATE)])
    _, table, lines, lufs, true_peak, bpm, sound_end, _ = measure(batch).args
    assert table.startswith("3 clips, 12.0 s")
    assert [json.loads(line)["item"] for line in lines] == [0, 1, 2]
    assert lufs[0] - lufs[1] == pytest.approx(20, abs=0.1)
    assert lufs[2] == -70.0
    assert true_peak[2] == -120.0
    assert bpm[2] == sound_end[2] == 0.0
    assert bpm[0] == pytest.approx(bpm[1], rel=1e-3)


def test_edges_of_regions_are_the_seams(measure):
    audio = clicks(120)
    audio[:, round(1.3 * RATE) : round(1.9 * RATE)] += 0.4 * torch.randn(
        round(1.9 * RATE) - round(1.3 * RATE), generator=torch.Generator().manual_seed(0)
    )
    jump = {}
    for name, pairs in {"at": [(1.3, 9.0)], "beside": [(0.8, 9.0)]}.items():
        (line,) = measure(audio[None], regions=[pairs]).args[2]
        jump[name] = json.loads(line)["seam_jump"]
    assert jump["at"] > 0.5
    assert jump["beside"] < 0.1
    given = measure(audio[None], regions=[[(1.3, 1.9)]], bpm=60.0).args[2][0]
    assert json.loads(given)["tempo_error"] == pytest.approx(1.0, abs=0.02)


def test_no_sound_is_refused(measure):
    broken = torch.zeros(1, 2, 100)
    broken[0, 0, 3] = math.nan
    with pytest.raises(ValueError, match="1 of the audio's 200 samples are NaN"):
        measure(broken)
