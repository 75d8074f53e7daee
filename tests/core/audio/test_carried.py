"""Graphs behind the sound of WAV and M4A files, which every player passes over."""

import json
import wave
from pathlib import Path

import av
import pytest
import torch

from sa3_core.audio.file import read_audio, write_audio
from sa3_core.audio.formats import FORMATS, format_for
from tests.helpers.sounds import carried_tags, noise, read_tags, sine

TAGS = {
    "prompt": json.dumps({"1": {"class_type": "SA3Sampler", "inputs": {"text": "é \\ \n"}}}),
    "workflow": json.dumps({"nodes": [], "extra": {"note": "日本" * 100_000}}),
    "title": "Größe",
}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", ["wav-16", "wav-24", "wav-32f", "m4a-192k"])
def test_what_is_carried_comes_back_and_the_sound_too(
    tmp_path: Path, name: str, channels: int
) -> None:
    audio = noise(channels, 4411, level=0.2)  # an odd number of 24-bit samples
    with_tags, without = tmp_path / "a", tmp_path / "b"
    write_audio(with_tags, audio, 44100, FORMATS[name], TAGS)
    write_audio(without, audio, 44100, FORMATS[name])
    assert carried_tags(with_tags.read_bytes()) == TAGS
    assert carried_tags(without.read_bytes()) == {}
    found, rate = read_audio(with_tags)
    assert rate == 44100
    assert torch.equal(found, read_audio(without)[0])
    if name == "wav-16":
        with wave.open(str(with_tags), "rb") as file:
            assert file.getnframes() == 4411
    assert read_tags(with_tags)["title"] == "Größe"


def test_tags_that_are_too_long_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tags = {"workflow": "x" * 2**26}
    write_audio(tmp_path / "a.wav", noise(1, 100), 44100, FORMATS["wav-16"], tags)
    assert (tmp_path / "a.wav").stat().st_size < 1000
    assert "do not fit into WAV" in caplog.text


@pytest.mark.parametrize("rate", [8000, 44100, 48000, 96000, 192000])
def test_m4a_keeps_length_and_sound(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.m4a"
    audio = sine(rate, rate) * 0.5
    report = write_audio(path, audio, rate, format_for(path))
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.streams.audio[0].rate == min(rate, 96000) == report.sample_rate
    found, _ = read_audio(path)
    assert abs(found.shape[-1] - report.samples) <= 1024
    if rate == min(rate, 96000):
        middle = slice(rate // 4, rate * 3 // 4)
        error = found[:, middle] - audio[:, middle]
        assert float(error.square().mean().sqrt()) < 0.05 * float(audio.square().mean().sqrt())
