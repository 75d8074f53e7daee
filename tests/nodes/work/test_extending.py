"""Extend Audio: windows past the model's maximum, the source untouched, no seam to be heard."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.helpers.editing_support import RATE, music, seam_steps

WHERE = ["at the end", "before the start"]


@pytest.fixture(scope="module")
def extend(small):
    """Extend Audio in small windows: (AUDIO, texts)."""
    node = small.module("nodes.extending").SA3ExtendAudio

    def run(audio, seconds, model=None, **inputs):
        values = {
            "positive": small.prompt("warm pad"),
            "seed": 1,
            "steps": 2,
            "context_seconds": 1.0,
            "overlap_seconds": 0.3,
            "window_seconds": 3.0,
            **inputs,
        }
        out = node.execute(audio, model or small.model, small.vae, seconds=seconds, **values)
        return out.args[0], out.ui["text"]

    return run


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 1)])
def test_many_windows_leave_the_source_untouched(extend, where, rate, channels):
    audio = music(1.61, rate, channels)
    out, texts = extend(audio, 5.5, where=where)
    samples = audio["waveform"].shape[-1]
    total = samples + round(5.5 * rate)
    assert "3 windows" in texts[0]
    assert abs(out["waveform"].shape[-1] - total) <= 1
    assert out["waveform"].shape[1] == channels
    assert out["sample_rate"] == rate
    wave = out["waveform"]
    end = where == "at the end"
    kept = wave[..., :samples] if end else wave[..., -samples:]
    assert torch.equal(kept, audio["waveform"])
    added = wave[..., samples:] if end else wave[..., :-samples]
    assert all(part.std() > 0.01 for part in added.chunk(10, dim=-1))
    join = samples if end else wave.shape[-1] - samples
    step, beside = seam_steps(wave, join)
    assert step <= beside
    length = round(5.5 * rate / 3)
    for window in (1, 2):
        at = samples + window * length if end else wave.shape[-1] - samples - window * length
        step, beside = seam_steps(wave, at)
        assert step <= beside


def test_a_window_follows_what_it_heard_and_the_seed(extend):
    audio = music(1.5)
    first, _ = extend(audio, 4.0)
    again, _ = extend(audio, 4.0)
    other, _ = extend(audio, 4.0, seed=2)
    assert torch.equal(first["waveform"], again["waveform"])
    assert not torch.equal(first["waveform"], other["waveform"])


def test_a_lora_acts_in_its_interval(extend, small, comfyui):
    file = Path(__file__).parents[2] / "golden" / "tiny-s" / "adapter_lora.safetensors"
    folder = comfyui / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, folder / file.name)
    load = small.module("nodes.adapters").SA3LoraLoader.execute
    # On the transformer alone: the conditioner follows no interval.
    models = [None] + [
        load(small.model, file.name, strength_conditioner=0.0, interval_start=start).args[0]
        for start in (0.0, 0.99)
    ]
    plain, always, first = (extend(music(1.5), 1.0, model)[0]["waveform"] for model in models)
    assert not torch.equal(plain, first), "the first step, at noise level 1, is inside"
    assert not torch.equal(always, first), "the second is not"


def test_one_window_is_a_continuation(extend, small):
    audio = music(1.5)
    out, texts = extend(audio, 1.0, window_seconds=0.0, context_seconds=10.0)
    assert "1 window " in texts[0]
    latent = small.module("nodes.editing").SA3ContinueAudio.execute(audio, small.vae, 1.0).args[0]
    assert torch.equal(out["waveform"], small.decode(small.sample(latent))["waveform"])


def test_items_of_a_batch_equal_single_runs(extend, small):
    audio = {**music(1.5, batch=2), "lengths": [round(1.5 * RATE), RATE]}
    prompts = small.prompt("a pad", "a bell")
    out, texts = extend(audio, 2.5, positive=prompts)
    assert len(texts) == 2
    assert out["lengths"] == [4 * RATE, round(3.5 * RATE)]
    alone = {"waveform": audio["waveform"][1:, :, :RATE], "sample_rate": RATE}
    single, _ = extend(alone, 2.5, positive=small.prompt("a bell"), seed=2)
    assert torch.allclose(
        out["waveform"][1:, :, : out["lengths"][1]], single["waveform"], atol=1e-5
    )


def test_progress_goes_once_over_all_windows(extend, small, monkeypatch):
    import comfy.utils

    seen = []

    class Bar:
        def __init__(self, total):
            seen.append((0, total))

        def update_absolute(self, value, total):
            seen.append((value, total))

    monkeypatch.setattr(comfy.utils, "ProgressBar", Bar)
    extend(music(1.5), 4.0)
    assert {total for _, total in seen} == {seen[0][1]}
    values = [value for value, _ in seen]
    assert values == sorted(values)
    assert values[-1] == seen[0][1]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"context_seconds": 3.0}, "leaves nothing"),
        ({"overlap_seconds": 1.0}, "overlap"),
        ({"seconds": 0.0}, "seconds is 0.0; it must be"),
    ],
)
def test_windows_without_room_are_refused(extend, inputs, message):
    seconds = inputs.pop("seconds", 4.0)
    with pytest.raises(ValueError, match=message):
        extend(music(1.5), seconds, **inputs)


def test_a_source_shorter_than_a_frame_is_refused(extend):
    with pytest.raises(ValueError, match="must fill one latent frame"):
        extend(music(0.05), 1.0)
