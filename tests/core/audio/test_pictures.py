"""Waveform columns, spectrograms and latents as arrays."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from sa3_core.audio.pictures import (
    FLOOR_DB,
    coloured,
    latent_levels,
    outline,
    row_edges,
    spectrogram,
    wave_columns,
)


def sine(frequency: float, seconds: float, rate: int = 44100, channels: int = 2) -> torch.Tensor:
    time = torch.arange(int(seconds * rate), dtype=torch.float64) / rate
    return (2 * math.pi * frequency * time).sin().float().repeat(channels, 1)


@pytest.mark.parametrize("frequency", [60.0, 440.0, 5000.0, 18_000.0])
def test_a_tone_is_one_bright_line_at_its_frequency(frequency):
    levels = spectrogram(sine(frequency, 2), 44100, 100, 192)
    assert levels.shape == (192, 100)
    middle = levels[:, 50]
    edges = row_edges(22050, 192)
    row = int(middle.argmax())
    tolerance = max(0.03 * frequency, 22)  # a row, or a bin of the transform
    assert edges[row + 1] - tolerance <= frequency <= edges[row] + tolerance
    assert float((middle > -60).float().mean()) < 0.5


def test_a_tone_at_full_scale_is_about_0_db():
    levels = spectrogram(sine(44100 / 2048 * 20, 1), 44100, 50, 1000)
    assert float(levels.max()) == pytest.approx(0, abs=0.1)


def test_silence_lies_at_the_floor():
    assert bool((spectrogram(torch.zeros(1, 100), 44100, 20, 30) == FLOOR_DB).all())


@pytest.mark.parametrize("samples", [1, 7, 3000, 500_000])
def test_any_length_fills_the_columns(samples):
    audio = torch.rand(2, samples) - 0.5
    assert spectrogram(audio, 8000, 64, 32).shape == (32, 64)
    low, high = wave_columns(audio, 64)
    assert low.shape == high.shape == (64,)
    assert float(low.min()) == float(audio.min())
    assert float(high.max()) == float(audio.max())


def test_a_column_holds_its_own_samples():
    audio = torch.zeros(1, 1000)
    audio[0, 505] = 1.0
    _, high = wave_columns(audio, 100)
    assert high.nonzero().tolist() == [[50]]


def test_colours_get_lighter():
    shades = coloured(torch.linspace(-0.1, 1.1, 60)[None]).float().mean(-1)[0]
    assert bool((shades.diff() >= 0).all())
    assert shades[-1] > 190


def test_latent_levels_follow_the_energy():
    latent = torch.ones(256, 40)
    latent[:, 20:] = 3.0
    levels = latent_levels(latent, 64, 80)
    assert levels.shape == (64, 80)
    assert float(levels[:, 60:].mean()) == pytest.approx(3 * float(levels[:, :20].mean()))
    assert bool((latent_levels(torch.zeros(256, 3), 8, 8) == 0).all())


def test_an_outline_holds_each_spans_own_samples_and_nothing_of_others():
    audio = torch.rand(2, 50, generator=torch.Generator().manual_seed(0)) - 0.5
    edges = np.array([3, 3, 10, 10, 11, 50, 50])
    low, high = outline(audio, edges)
    for index, (start, end) in enumerate(pairwise(edges)):
        span = audio[:, start:end]
        assert low[index] == (float(span.min()) if end > start else 0)
        assert high[index] == (float(span.max()) if end > start else 0)
    assert not outline(audio, np.array([7, 7]))[1].any()


def test_a_spectrogram_between_given_frequencies():
    levels = spectrogram(sine(1000.0, 1), 44100, 20, 128, lowest=40, highest=18_000)
    edges = row_edges(18_000, 128, 40)
    row = int(levels[:, 10].argmax())
    assert float(edges[row]) * 1.03 > 1000 > float(edges[row + 1]) / 1.03
    assert float(edges[0]) == pytest.approx(18_000)
    assert float(edges[-1]) == pytest.approx(40)
