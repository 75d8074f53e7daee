"""Levels of saved sounds: loudness, peaks normalised, limited, or turned down to full scale."""

import math

import pytest
import torch
from torch import Tensor

from sa3_core.audio.levels import PEAKS, Levels, limit, set_levels
from sa3_core.audio.loudness import integrated, measure, to_db, true_peak
from sa3_core.errors import InputError
from tests.helpers.sounds import noise, sine

RATE = 44100


def bursts() -> Tensor:
    """A quiet tone with three loud moments."""
    audio = sine(2 * RATE, RATE) * 0.4
    for at in (0.0, 0.7, 1.999):
        audio[:, round(at * RATE) : round(at * RATE) + 200] *= 8
    return audio


@pytest.mark.parametrize("clips", [True, False])
@pytest.mark.parametrize("level", [0.5, 1.0, 3.0])
def test_auto_turns_down_only_what_would_clip(level: float, clips: bool) -> None:
    audio = sine(RATE, RATE)
    audio = audio / audio.abs().max() * level
    out, said = set_levels(audio, RATE, Levels(), clips)
    if level > 1 and clips:
        assert float(out.abs().max()) == 1.0
        assert torch.allclose(out * level, audio, atol=1e-6)
        assert said == ["turned down by 9.5 dB to full scale"]
    else:
        assert torch.equal(out, audio)
        assert said == []


def test_off_leaves_everything() -> None:
    audio = noise(2, RATE, level=2.0)
    out, said = set_levels(audio, RATE, Levels(peaks="off"), True)
    assert torch.equal(out, audio)
    assert said == []


@pytest.mark.parametrize("ceiling", [-6.0, -1.0, 0.0])
@pytest.mark.parametrize("gain", [0.01, 1.0, 40.0])
def test_normalise_brings_the_true_peak_to_the_ceiling(gain: float, ceiling: float) -> None:
    audio = noise(2, RATE // 2) * gain
    out, _ = set_levels(audio, RATE, Levels(peaks="normalise", ceiling=ceiling), True)
    assert to_db(true_peak(out, RATE)) == pytest.approx(ceiling, abs=1e-3)
    assert torch.allclose(out / out.abs().max(), audio / audio.abs().max(), atol=1e-6)


def test_limit_turns_down_peaks_and_leaves_the_rest() -> None:
    audio = bursts()
    out, most = limit(audio, RATE, -1.0)
    assert true_peak(out, RATE) <= 10 ** (-1 / 20) * 1.0001
    assert most == pytest.approx(to_db(true_peak(audio, RATE)) + 1, abs=1.0)
    calm = slice(round(0.3 * RATE), round(0.6 * RATE))
    shared = out[:, calm] / audio[:, calm].where(audio[:, calm] != 0, torch.ones(()))
    assert float(shared.max()) > 0.97  # the last tenths of a dB are everybody's
    gain = (out / audio).where(audio.abs() > 0.05, torch.full((), math.nan))
    both = ~gain.isnan().any(0)
    assert torch.allclose(gain[0, both], gain[1, both], atol=1e-5)  # channels alike
    assert float(out.diff().abs().max()) <= float(audio.diff().abs().max())


@pytest.mark.parametrize("samples", [1, 2, 100, 300])
def test_limit_of_short_sounds(samples: int) -> None:
    out, _ = limit(torch.full((1, samples), 2.0), RATE, -1.0)
    assert true_peak(out, RATE) <= 10 ** (-1 / 20) * 1.0001


def test_below_the_ceiling_nothing_is_touched() -> None:
    audio = sine(RATE, RATE) * 0.5
    assert limit(audio, RATE, -1.0)[0] is audio


def test_loudness_with_a_limiter_goes_all_the_way() -> None:
    audio = bursts()
    held, said = set_levels(audio, RATE, Levels(lufs=-10.0), True)
    assert measure(held, RATE).dbtp <= -0.99
    assert "would have peaked above -1 dBTP" in said[0]
    limited, said = set_levels(audio, RATE, Levels(lufs=-10.0, peaks="limit"), True)
    assert true_peak(limited, RATE) <= 10 ** (-1 / 20) * 1.0001
    assert integrated(limited, RATE) > integrated(held, RATE) + 3
    assert "limited to -1 dBTP" in said[1]


def test_silence_and_impossible_values() -> None:
    silence = torch.zeros(2, 1000)
    for peaks in PEAKS:
        assert torch.equal(set_levels(silence, RATE, Levels(peaks=peaks), True)[0], silence)
    assert set_levels(silence, RATE, Levels(lufs=-14.0), True)[1] == ["silent: left as it is"]
    with pytest.raises(InputError, match="both set the level"):
        Levels(lufs=-14.0, peaks="normalise").checked()
    with pytest.raises(InputError, match="must be one of auto, off, normalise, limit"):
        Levels(peaks="hard").checked()
    with pytest.raises(InputError, match="between -40 and 0"):
        Levels(ceiling=1.0).checked()
