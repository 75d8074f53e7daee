"""How sounds are prepared, against the papers' tool written out."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sa3_core.evaluation.extractor import MissingExtractorError
from sa3_core.evaluation.signals import (
    mono,
    peak_normalised,
    resampled,
    through_16_bits,
    windows,
)


def test_peaks_are_at_minus_one_db_over_all_channels():
    audio = np.array([[0.1, -0.5], [0.0, 0.25]], np.float32)
    found = peak_normalised(audio)
    assert 20 * np.log10(np.abs(found).max()) == pytest.approx(-1, abs=1e-5)
    assert found[1, 1] / found[0, 0] == pytest.approx(2.5, rel=1e-6)
    assert not peak_normalised(np.zeros(3, np.float32)).any()
    assert mono(audio).tolist() == pytest.approx([0.05, -0.125])


@pytest.mark.parametrize("size", [50, 100, 101, 149, 150, 151, 160, 200, 249, 251, 333])
def test_windows_are_those_of_the_tool(size):
    audio = np.arange(1, size + 1, dtype=np.float32)
    expected = []
    for start in range(0, max(50, len(audio) - 50), 50):
        window = audio[start : start + 100]
        if len(window) < 100 and len(window) > 15:
            padded = np.zeros(100)
            padded[: len(window)] = window
            window = padded
        expected.append(window)
    found = list(windows(audio, 100, 50))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_shorter_than_a_window_can_be_padded_for_stays_short():
    assert [len(window) for window in windows(np.ones(15, np.float32), 100, 50)] == [15]
    assert [len(window) for window in windows(np.ones(16, np.float32), 100, 50)] == [100]


def test_sixteen_bits_cut_towards_zero():
    found = through_16_bits(np.array([0.99999, -0.99999, 2.0, 1e-5, -4e-5], np.float32)) * 32767
    np.testing.assert_allclose(found, [32766, -32766, 32767, 0, -1], atol=1e-2)


def test_another_rate_needs_the_tools_resampler(monkeypatch):
    audio = np.ones((2, 10), np.float32)
    assert resampled(audio, 8000, 8000) is audio
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(MissingExtractorError, match=r"8000 Hz .* pip install '\.\[evaluate\]'"):
        resampled(audio, 8000, 16000)


def test_resampling_keeps_a_tone():
    pytest.importorskip("soxr")
    tone = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100).astype(np.float32)
    found = resampled(np.stack([tone, -tone]), 44100, 32000)
    assert found.shape == (2, 32000)
    expected = np.sin(2 * np.pi * 440 * np.arange(32000) / 32000)
    assert np.abs(found[0] - expected)[500:-500].max() < 1e-4
