"""Loops: rotation to the sample, the seam's region, what a closed seam measures."""

from __future__ import annotations

import math

import pytest
import torch

from sa3_core.editing.loop import plan_loop, rotate
from sa3_core.editing.paste import Source, paste_back
from sa3_core.editing.regions import bar_seconds
from sa3_core.errors import InputError, RegionError
from tests.helpers.editing_support import seam_step


@pytest.mark.parametrize("rate", [44100, 48000, 22050])
@pytest.mark.parametrize("bpm", [120, 97.3])
def test_rotation_is_exact_and_puts_the_seam_into_the_region(rate, bpm):
    seconds = bar_seconds(1, bpm)
    plan = plan_loop(5 * rate, rate, seconds, 0.5)
    assert plan.samples == round(seconds * rate)
    wave = torch.arange(5.0 * rate)[None, None]
    turned = rotate(wave, plan)
    assert turned.shape[-1] == plan.samples
    assert torch.equal(torch.roll(turned, plan.shift, dims=-1), wave[..., : plan.samples])
    seam = int((turned[0, 0] == 0).nonzero())  # where the loop's first sample lies now
    assert turned[0, 0, seam - 1] == plan.samples - 1
    assert plan.region.start + plan.region.end == pytest.approx(2 * seam / rate)
    assert plan.region.end - plan.region.start == pytest.approx(0.5)
    assert plan.region.start >= 0
    assert plan.region.end <= plan.seconds


def sine(freq, samples, rate=44100):
    return torch.sin(2 * math.pi * freq * torch.arange(samples, dtype=torch.float64) / rate).float()


def test_a_loop_made_from_a_cut_wave_closes():
    """The cut jumps; after inpainting the seam with a smooth wave it does not."""
    rate, plan = 44100, plan_loop(88200, 44100, 1.7, 0.4)
    wave = sine(220.7, 88200).expand(1, 2, -1)
    step, beside = seam_step(wave[..., : plan.samples])
    assert step > 2 * beside, "the raw cut clicks"
    turned = rotate(wave, plan)
    made = sine(101.0, plan.samples).expand(1, 2, -1)
    pasted, lengths = paste_back(made, Source(turned, rate, [[plan.region]]))
    assert lengths == [plan.samples]
    loop = torch.roll(pasted, plan.shift, dims=-1)
    step, beside = seam_step(loop)
    assert step <= beside
    kept = slice(round(0.25 * rate), plan.samples - round(0.25 * rate))
    assert torch.equal(loop[..., kept], wave[..., : plan.samples][..., kept])


def test_seam_step_of_a_whole_number_of_waves_is_an_ordinary_step():
    step, beside = seam_step(sine(100.0, 44100))
    assert step == pytest.approx(beside, rel=1e-3)


@pytest.mark.parametrize(
    ("loop", "seam", "words"),
    [(3.0, 0.5, "only 2 s"), (1.0, 0.6, "0.09-0.5 s"), (1.0, 0.01, "0.09-0.5 s")],
)
def test_what_does_not_fit_is_named(loop, seam, words):
    with pytest.raises(RegionError, match=words):
        plan_loop(88200, 44100, loop, seam)


def test_bad_lengths_are_named():
    with pytest.raises(InputError, match="loop_seconds is"):
        plan_loop(88200, 44100, math.nan, 0.5)
    with pytest.raises(InputError, match="seam_seconds is"):
        plan_loop(88200, 44100, 1.0, -1.0)


@pytest.mark.parametrize(("loop", "seam"), [(8.0, 2.0), (4.0, 2.0), (3.0, 1.5), (0.5, 0.25)])
def test_the_usual_seam_fits_the_loop(loop: float, seam: float) -> None:
    region = plan_loop(10 * 44100, 44100, loop).region
    assert region.end - region.start == pytest.approx(seam)
    with pytest.raises(RegionError, match=r"must last 0\.19 s or more"):
        plan_loop(10 * 44100, 44100, 0.15)
