"""More than two channels become two by the standard's coefficients."""

import itertools
import logging
import math
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from sa3_core.audio.downmix import LAYOUTS, to_stereo
from sa3_core.audio.file import read_audio, read_source, write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.audio.waveform import prepare_source
from sa3_core.errors import AudioError

LOW = math.sqrt(0.5)
SIDES = {"FL": (1, 0), "FR": (0, 1), "FC": (LOW, LOW), "LFE": (0, 0), "BC": (0.5, 0.5)}
SIDES |= {"BL": (LOW, 0), "SL": (LOW, 0), "BR": (0, LOW), "SR": (0, LOW)}


@pytest.mark.parametrize("count", range(3, 9))
def test_each_channel_gets_the_standards_coefficients(count: int) -> None:
    names = LAYOUTS[count][1].split()
    for place, name in enumerate(names):
        alone = torch.zeros(count, 5)
        alone[place] = 0.5
        mixed, note = to_stereo(alone)
        expected = torch.tensor(SIDES[name])[:, None] * 0.5
        assert torch.allclose(mixed, expected.expand(2, 5), atol=1e-7), name
        assert " ".join(names) + ", assumed" in note
        known, note = to_stereo(alone, names)
        assert torch.equal(known, mixed)
        assert "assumed" not in note


@pytest.mark.parametrize("count", [1, 2])
def test_mono_and_stereo_are_handed_on(count: int) -> None:
    audio = torch.ones(3, count, 4) * 7
    mixed, note = to_stereo(audio)
    assert mixed is audio
    assert note == ""


def test_every_layout_that_ffmpeg_names_is_known() -> None:
    """Each keeps left and right apart, and what is left of the middle is on the left."""
    layouts = (
        "2.1 3.0 3.0(back) 4.0 quad quad(side) 3.1 5.0 5.0(side) 4.1 5.1 5.1(side) 6.0 6.0(front) "
        "hexagonal 6.1 6.1(back) 6.1(front) 7.0 7.0(front) 7.1 7.1(wide) 7.1(wide-side) octagonal "
        "hexadecagonal cube 5.1.2 5.1.4 7.1.2 7.1.4 9.1.4 22.2"
    )
    for name in layouts.split():
        channels = [channel.name for channel in av.AudioLayout(name).channels]
        mixed, note = to_stereo(torch.eye(len(channels)), channels)
        assert "assumed" not in note, name
        left, right = mixed
        for channel, gains in zip(channels, zip(left, right, strict=True), strict=True):
            mirrored = channel[:-1] + {"L": "R", "R": "L"}.get(channel[-1], channel[-1])
            mirrored = {"FLC": "FRC", "FRC": "FLC"}.get(channel, mirrored)
            other = channels.index(mirrored)
            assert gains == (right[other], left[other]), f"{name} {channel}"
            if channel.endswith("L"):
                assert gains[0] > 0 == gains[1], f"{name} {channel}"


def test_a_mix_beyond_full_scale_is_turned_down_item_by_item() -> None:
    audio = torch.stack([torch.full((6, 10), 0.9), torch.full((6, 10), 0.2)])
    mixed, note = to_stereo(audio)
    assert float(mixed[0].abs().max()) == pytest.approx(1.0)
    assert torch.allclose(mixed[1], torch.tensor(0.2 * (1 + 2 * LOW)))
    assert f"turned down by {20 * math.log10(0.9 * (1 + 2 * LOW)):.1f} dB" in note
    loud, _ = to_stereo(audio * 4)  # its channels are beyond full scale already
    assert float(loud[0].abs().max()) == pytest.approx(3.6)


@pytest.mark.parametrize("count", [9, 64])
def test_more_channels_than_any_usual_layout_are_refused(count: int) -> None:
    with pytest.raises(AudioError, match=f"{count} channels.*Mix it down to two"):
        to_stereo(torch.zeros(count, 10))


def surround(layout: str, path: Path, codec: str = "pcm_f32le", form: str = "flt") -> torch.Tensor:
    """A file of that layout, every channel a constant of its own, and its samples."""
    count = av.AudioLayout(layout).nb_channels
    samples = (np.arange(count, dtype=np.float32)[:, None] + 1) / 16 * np.ones((1, 4410), "f4")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=44100, layout=layout)
        interleaved = np.ascontiguousarray(samples.T.reshape(1, -1))
        if form == "s16":
            interleaved = (interleaved * 2**15).astype(np.int16)
        stream.codec_context.format = form
        frame = av.AudioFrame.from_ndarray(interleaved, format=form, layout=layout)
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return torch.from_numpy(samples)


@pytest.mark.parametrize(
    ("layout", "suffix"),
    list(itertools.product(["2.1", "quad", "4.0", "5.1", "5.1(side)", "7.1"], ["wav", "flac"])),
)
def test_files_are_mixed_down_by_their_own_layout(tmp_path: Path, layout: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    codec = ("pcm_f32le", "flt") if suffix == "wav" else ("flac", "s16")
    samples = surround(layout, path, *codec)
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    mixed, rate, note = read_source(path)
    assert rate == 44100
    gains = torch.tensor([SIDES[name] for name in names]).float().T
    expected = gains @ samples
    expected = expected / max(1.0, float(expected.abs().max()))
    assert torch.allclose(mixed, expected, atol=1e-6)
    assert f"{' '.join(names)})" in note
    untouched, _ = read_audio(path)
    assert torch.equal(untouched, samples)


def test_a_file_without_a_layout_says_what_was_assumed(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(5)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(np.full((100, 5), 1000, np.int16).tobytes())
    mixed, _, note = read_source(path)
    assert torch.allclose(mixed, torch.tensor(1000 / 2**15 * (1 + 2 * LOW)), atol=1e-6)
    assert "FL FR FC BL BR, assumed" in note


def test_sources_of_the_models_are_mixed_down_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audio = torch.rand(1, 6, 1000, generator=torch.Generator().manual_seed(0)) * 0.1
    with caplog.at_level(logging.WARNING):
        out = prepare_source(audio, 44100)
    assert torch.equal(out, to_stereo(audio)[0])
    assert "6 channels" in caplog.text
    write_audio(tmp_path / "a.wav", audio[0], 44100, FORMATS["wav-32f"])
    assert torch.equal(read_source(tmp_path / "a.wav")[0], out[0])
