"""Loudness and true peak against pyloudnorm and against what the standard states."""

from __future__ import annotations

import math

import numpy as np
import pyloudnorm
import pytest
import torch
import torchaudio.functional
import torchaudio.transforms
from torch import Tensor

from sa3_core.audio.loudness import (
    CEILING,
    Loudness,
    gain_to,
    integrated,
    matching_gains,
    measure,
    to_db,
    true_peak,
)
from sa3_core.errors import AudioError


def noise(seconds: float, rate: int = 44100, channels: int = 2, seed: int = 0) -> Tensor:
    """Pink-like noise whose level moves, so that both gates act."""
    generator = torch.Generator().manual_seed(seed)
    samples = int(seconds * rate)
    white = torch.randn(channels, samples, generator=generator)
    slow = 0.3 * white + 0.05 * white.cumsum(-1).sub(white.cumsum(-1).mean(-1, keepdim=True)) / 50
    level = torch.linspace(0, 3 * math.pi, samples).sin().square() ** 3
    return slow * level


def sine(frequency: float, seconds: float, rate: int, amplitude: float = 1.0) -> Tensor:
    time = torch.arange(int(seconds * rate), dtype=torch.float64) / rate
    return (amplitude * (2 * math.pi * frequency * time).sin()).float()[None]


@pytest.mark.parametrize("rate", [22050, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_equals_pyloudnorm(rate, channels):
    audio = noise(5, rate, channels)
    data = audio.T.numpy().astype(np.float64)
    exact = pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(data)
    assert integrated(audio, rate) == pytest.approx(exact, abs=0.01)
    usual = pyloudnorm.Meter(rate).integrated_loudness(data)  # rounded filters
    assert integrated(audio, rate) == pytest.approx(usual, abs=0.15)


def test_a_loud_sound_is_not_clamped():
    audio = 4 * noise(5)
    data = audio.T.numpy().astype(np.float64)
    exact = pyloudnorm.Meter(44100, filter_class="DeMan").integrated_loudness(data)
    assert integrated(audio, 44100) == pytest.approx(exact, abs=0.01)
    assert integrated(audio, 44100) == pytest.approx(
        integrated(audio / 4, 44100) + to_db(4), abs=0.05
    )


def test_the_standards_calibration_tone():
    """997 Hz at full scale in one channel reads -3.01 LUFS, at -23 dBFS in two -23.0."""
    assert integrated(sine(997, 5, 48000), 48000) == pytest.approx(-3.01, abs=0.01)
    stereo = sine(997, 5, 48000, 10 ** (-23 / 20)).repeat(2, 1)
    assert integrated(stereo, 48000) == pytest.approx(-23.0, abs=0.02)


def test_gates_leave_silence_and_quiet_parts_out():
    tone = sine(997, 5, 44100)
    silent = torch.zeros(1, 5 * 44100)
    assert integrated(torch.cat([tone, silent], -1), 44100) == pytest.approx(-3.01, abs=0.15)
    assert integrated(torch.cat([tone, 0.05 * tone], -1), 44100) == pytest.approx(-3.01, abs=0.15)


@pytest.mark.parametrize("samples", [1, 100, 17_000])
def test_a_sound_shorter_than_a_block_has_a_loudness(samples):
    audio = torch.ones(2, samples) * torch.randn(
        samples, generator=torch.Generator().manual_seed(1)
    )
    assert math.isfinite(integrated(audio, 44100))


def test_silence_has_none():
    for samples in (10, 44100):
        silent = measure(torch.zeros(2, samples), 44100)
        assert silent == Loudness(-math.inf, 0.0)
        assert silent.dbtp == -math.inf


def test_a_rate_that_is_none_is_refused():
    with pytest.raises(AudioError, match="sample rate"):
        measure(torch.zeros(1, 10), 0)


@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5])
def test_true_peak_finds_what_lies_between_the_samples(phase):
    """At a quarter of the sample rate the samples can miss the crest by 3 dB."""
    time = torch.arange(44100, dtype=torch.float64)
    audio = (math.pi * (time / 2 + phase)).sin().float()[None]
    inside = audio[:, 2000:-2000]
    assert true_peak(torch.hann_window(44100) * audio, 44100) == pytest.approx(1.0, abs=0.01)
    assert float(inside.abs().max()) <= 1.0001


def test_true_peak_is_that_of_the_whole_refined_at_once():
    audio = noise(4, seed=3)
    audio = torchaudio.functional.lowpass_biquad(audio / 10, 44100, 12_000)
    finer = torchaudio.transforms.Resample(1, 4, lowpass_filter_width=12)(audio)
    assert true_peak(audio, 44100) == pytest.approx(float(finer.abs().max()), rel=1e-5)
    assert true_peak(audio, 44100) > float(audio.abs().max())


def test_high_rates_are_refined_less():
    audio = sine(1000, 0.1, 192_000, 0.5)
    assert true_peak(audio, 192_000) == float(audio.abs().max())


def test_the_gain_reaches_the_target():
    audio = noise(5) * 0.05
    gain, held = gain_to(measure(audio, 44100), -30.0)
    assert not held
    assert measure(audio * gain, 44100).lufs == pytest.approx(-30.0, abs=0.05)


def test_the_gain_stops_at_the_ceiling():
    audio = noise(5)
    gain, held = gain_to(measure(audio, 44100), 0.0)
    assert held
    assert measure(audio * gain, 44100).dbtp == pytest.approx(CEILING, abs=0.01)


def test_silence_gets_no_gain():
    assert gain_to(Loudness(-math.inf, 0.0), -14) == (1.0, False)


def test_matching_brings_all_down_to_the_quietest():
    gains = matching_gains([-10.0, -16.0, -math.inf])
    assert gains == [pytest.approx(10 ** (-6 / 20)), 1.0, 1.0]
    assert matching_gains([]) == []
