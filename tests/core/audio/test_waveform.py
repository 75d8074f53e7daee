"""Sources are resampled, doubled and checked; results are cut per item."""

import logging
import subprocess
import sys

import pytest
import torch
import torchaudio.transforms
from torch import Tensor

from sa3_core.audio.waveform import as_batch, fit_length, peak, prepare_source, resample
from sa3_core.errors import AudioError
from tests.helpers.support import ROOT, rel_l2


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.2


def test_stereo_at_the_models_rate_is_untouched() -> None:
    audio = noise(3, 2, 1000)
    assert torch.equal(prepare_source(audio, 44100), audio)


def test_channels_by_samples_becomes_a_batch_of_one() -> None:
    audio = noise(2, 1000)
    assert torch.equal(prepare_source(audio, 44100), audio[None])


def test_mono_is_doubled() -> None:
    audio = noise(2, 1, 777)
    out = prepare_source(audio, 44100)
    assert out.shape == (2, 2, 777)
    assert torch.equal(out[:, :1], audio)
    assert torch.equal(out[:, 1:], audio)


RATES = [7, 8000, 11025, 16000, 22050, 32000, 37800, 44100, 48000, 96000, 192000]


@pytest.mark.parametrize("rate", RATES)
def test_resampling_is_torchaudios_default(rate: int) -> None:
    audio = noise(1, 1, rate // 4 + 1)
    out = prepare_source(audio, rate)
    expected = torchaudio.transforms.Resample(rate, 44100)(audio)
    assert rel_l2(out[:, :1], expected) <= 1e-6
    assert out.shape[-1] == -(-audio.shape[-1] * 44100 // rate)


@pytest.mark.parametrize(("rate", "target"), [(44100, 48000), (48000, 16000), (44100, 8000)])
def test_resampling_elsewhere_and_other_filters(rate: int, target: int) -> None:
    audio = noise(2, 3, 1001)
    expected = torchaudio.transforms.Resample(rate, target)(audio)
    assert rel_l2(resample(audio, rate, target), expected) <= 1e-6
    steeper = torchaudio.transforms.Resample(rate, target, lowpass_filter_width=20)(audio)
    assert rel_l2(resample(audio, rate, target, zeros=20), steeper) <= 1e-6


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_the_shortest_sounds_are_resampled(samples: int) -> None:
    audio = noise(1, samples)
    expected = torchaudio.transforms.Resample(48000, 44100)(audio)
    assert rel_l2(resample(audio, 48000, 44100), expected) <= 1e-6


def test_the_core_needs_no_torchaudio() -> None:
    """Newer ComfyUI does not install it; here every import of it fails."""
    code = (
        "import sys, pkgutil, importlib\n"
        f"sys.path.append({str(ROOT)!r})\n"
        "sys.modules['torchaudio'] = None\n"
        "import sa3_core, torch\n"
        "for module in pkgutil.walk_packages(sa3_core.__path__, 'sa3_core.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "from sa3_core.audio.loudness import measure\n"
        "audio = sa3_core.prepare_source(torch.randn(2, 4800), 48000)\n"
        "assert audio.shape == (1, 2, 4410)\n"
        "assert measure(audio[0], 44100).peak > 1\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_sine_at_48k_is_the_same_sine_at_44k() -> None:
    """Frequency, phase and level survive; the edges are left out, where the filter sees silence."""
    time_in, time_out = (torch.arange(rate, dtype=torch.float64) / rate for rate in (48000, 44100))
    sine_in, sine_out = (torch.sin(2 * torch.pi * 997 * time) for time in (time_in, time_out))
    out = prepare_source(sine_in[None], 48000)[0, 0]
    assert out.shape == (44100,)
    error = (out.double() - sine_out)[100:-100].abs().max()
    assert error < 2e-3  # the ripple of the 6-zero sinc window


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_other_dtypes_become_float32(dtype: torch.dtype) -> None:
    audio = noise(1, 2, 64).to(dtype)
    out = prepare_source(audio, 44100)
    assert out.dtype == torch.float32
    assert torch.equal(out, audio.float())


def test_integer_samples_are_brought_to_full_scale_1(caplog: pytest.LogCaptureFixture) -> None:
    audio = torch.tensor([[[0, 20000, -32768]]], dtype=torch.int16)
    with caplog.at_level(logging.WARNING):
        out = prepare_source(audio, 44100)
    assert torch.equal(out[:, 0], audio[:, 0].float() / 2**15)
    assert not caplog.records


@pytest.mark.parametrize(("level", "warned"), [(0.5, False), (8.0, False), (40.0, True)])
def test_peak_40_is_accepted_and_named(
    level: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    audio = torch.zeros(1, 2, 50)
    audio[0, 1, 3] = -level
    with caplog.at_level(logging.WARNING):
        assert peak(prepare_source(audio, 44100)) == level
    assert ("peak is 40" in caplog.text) is warned
    assert len(caplog.records) == int(warned)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (None, "no audio"),
        (torch.zeros(2, 2, 0), "empty"),
        (torch.zeros(0, 2, 100), "empty"),
        (torch.zeros(1, 0, 100), "empty"),
        (torch.zeros(100), r"shape \[100\]"),
        (torch.zeros(1, 1, 2, 100), "must be"),
        (torch.zeros(1, 9, 100), "9 channels.*two channels"),
        (torch.zeros(64, 100), "64 channels.*two channels"),
        (torch.tensor([[0.0, float("nan"), 0.0]]), "1 of the audio's 3 samples"),
        (torch.tensor([[0.0, float("inf"), float("-inf")]]), "2 of the audio's 3 samples"),
    ],
)
def test_unusable_sources(waveform: Tensor | None, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        prepare_source(waveform, 44100)


@pytest.mark.parametrize("rate", [0, -44100, 44100.5, float("nan")])
def test_unusable_rates(rate: int) -> None:
    with pytest.raises(AudioError, match="positive whole number"):
        prepare_source(torch.zeros(1, 2, 10), rate)


def test_a_rate_without_a_simple_ratio_is_resampled() -> None:
    """A filter per output sample, 2e9 taps, is never made whole."""
    time = torch.arange(44099, dtype=torch.float64) / 44099
    out = prepare_source(torch.sin(2 * torch.pi * 997 * time)[None], 44099)[0, 0]
    expected = torch.sin(2 * torch.pi * 997 * torch.arange(44100, dtype=torch.float64) / 44100)
    assert (out.double() - expected)[100:-100].abs().max() < 2e-3


def test_a_rate_without_ratio_is_refused_instead_of_filling_memory() -> None:
    with pytest.raises(AudioError, match=r"1000000007 Hz.*44100 or 48000"):
        prepare_source(torch.zeros(1, 2, 10), 1_000_000_007)
    assert resample(torch.zeros(1, 10), 44100, 44100).shape == (1, 10)


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 5000])
def test_fit_length(samples: int) -> None:
    audio = noise(2, 2, 100)
    out = fit_length(audio, samples)
    both = min(samples, 100)
    assert out.shape == (2, 2, samples)
    assert torch.equal(out[..., :both], audio[..., :both])
    assert not out[..., 100:].any()


def test_fit_length_refuses_nothing() -> None:
    with pytest.raises(AudioError, match="0 samples"):
        fit_length(torch.zeros(2, 10), 0)


def test_peak() -> None:
    assert peak(torch.tensor([[0.25, -1.5]])) == 1.5
    assert peak(torch.zeros(2, 0)) == 0.0


@pytest.mark.parametrize(
    ("dtype", "least", "most"),
    [
        (torch.uint8, 0, 255),
        (torch.int8, -128, 127),
        (torch.int16, -(2**15), 2**15 - 1),
        (torch.int32, -(2**31), 2**31 - 1),
    ],
)
def test_whole_numbers_are_divided_by_their_full_scale(dtype, least, most):
    audio = as_batch(torch.tensor([[least, most]], dtype=dtype))
    assert audio.dtype == torch.float32
    assert audio[0, 0, 0] == -1
    assert audio[0, 0, 1] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_types_without_a_full_scale_are_refused(dtype):
    with pytest.raises(AudioError, match="no full scale"):
        as_batch(torch.ones(1, 2, 8, dtype=dtype))
