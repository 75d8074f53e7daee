"""Peaks, zero crossings and spectrograms for the region editor, and which files it may read."""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import os
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from aiohttp import web

from tests.helpers.loops import finish
from tests.tools.hostile import silent_flac

RATE = 44100


@pytest.fixture(scope="module")
def module(pack: ModuleType) -> ModuleType:
    return importlib.import_module("sa3_pack.nodes.bridge.web.peaks")


@pytest.fixture
def tone(comfyui: Path) -> Path:
    """A second and a bit of a sine in the input folder."""
    core = importlib.import_module("sa3_pack.sa3_core.audio.file")
    formats = importlib.import_module("sa3_pack.sa3_core.audio.formats").FORMATS
    path = comfyui / "input" / "peaks" / "tone.wav"
    path.parent.mkdir(exist_ok=True)
    wave = 0.5 * torch.sin(2 * torch.pi * 100 * torch.arange(50_001) / RATE)
    core.write_audio(path, torch.stack([wave, wave]), RATE, formats["wav-32f"])
    return path


def unpack(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def test_every_level_holds_the_extremes_of_its_bins(module):
    audio = np.random.default_rng(0).uniform(-1, 1, (2, 10_000)).astype(np.float32)
    answer = module.peaks(torch.from_numpy(audio), RATE)
    assert answer["seconds"] == pytest.approx(10_000 / RATE)
    for level in answer["levels"]:
        pairs = unpack(level["pairs"], "int8").reshape(-1, 2)
        bins = [audio[:, at : at + level["bin"]] for at in range(0, 10_000, level["bin"])]
        assert len(pairs) == len(bins)
        for (low, high), samples in zip(pairs, bins, strict=True):
            assert low == np.floor(samples.min() * 127)
            assert high == np.ceil(samples.max() * 127)


def test_crossings_are_where_the_mono_mix_changes_sign(module):
    audio = np.random.default_rng(1).normal(size=(2, 5_000)).astype(np.float32)
    audio[:, 1000:2000] = 0.25  # a stretch without any
    answer = module.peaks(torch.from_numpy(audio), RATE)
    size, found = answer["levels"][0]["bin"], unpack(answer["crossings"], "uint8")
    below = audio.sum(axis=0) < 0
    changes = np.flatnonzero(below[1:] != below[:-1]) + 1
    for index, place in enumerate(found):
        inside = changes[(changes >= index * size) & (changes < (index + 1) * size)]
        assert place == (inside[0] - index * size if len(inside) else 255)
    assert (found == 255).any()


def test_crossings_do_not_depend_on_blocks(module, monkeypatch):
    audio = np.random.default_rng(2).normal(size=(2, 5_000)).astype(np.float32)
    whole = module.peaks(torch.from_numpy(audio), RATE)["crossings"]
    pictures = importlib.import_module("sa3_pack.sa3_core.audio.pictures")
    monkeypatch.setattr(pictures, "_BINS_AT_ONCE", 3)
    assert module.peaks(torch.from_numpy(audio), RATE)["crossings"] == whole


@pytest.mark.parametrize("samples", [1, 100, 128, 3000])
def test_short_files_have_pictures_too(module, samples):
    audio = np.full((1, samples), 0.5, dtype=np.float32)
    assert (
        unpack(module.peaks(torch.from_numpy(audio), RATE)["levels"][0]["pairs"], "int8")[1] == 64
    )
    answer = module.sound_image(torch.from_numpy(audio), RATE)
    assert len(unpack(answer["pixels"], "uint8")) == answer["columns"] * answer["rows"]


def test_a_spectrogram_shows_a_sine_at_its_pitch(module):
    sine = np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE).astype(np.float32)
    answer = module.sound_image(torch.from_numpy(sine[None]), RATE)
    picture = unpack(answer["pixels"], "uint8").reshape(answer["rows"], answer["columns"])
    middle = picture[:, answer["columns"] // 2]
    assert middle.max() >= 250  # full scale is 0 dB, and a window loses up to 1.4
    share = 1 - (middle.argmax() + 0.5) / answer["rows"]
    assert 40 * (18_000 / 40) ** share == pytest.approx(1000, rel=0.05)
    assert np.median(middle) < 60


def test_only_files_of_the_three_folders_are_found(module, tone, comfyui):
    assert module.find_file("tone.wav", "peaks", "input") == tone.resolve()
    (comfyui / "secret.wav").write_bytes(b"x")
    outside = (
        ("../secret.wav", ""),
        ("secret.wav", ".."),
        (str(comfyui / "secret.wav"), ""),
        ("secret.wav", str(comfyui)),
        ("peaks/../../secret.wav", ""),
        ("a\0b", ""),
    )
    for filename, subfolder in outside:
        with pytest.raises(web.HTTPForbidden):
            module.find_file(filename, subfolder, "input")
    for filename, folder in (("", "input"), ("tone.wav", "models"), ("tone.wav", "")):
        with pytest.raises(web.HTTPBadRequest):
            module.find_file(filename, "peaks", folder)
    for filename in ("none.wav", "."):
        with pytest.raises(web.HTTPNotFound):
            module.find_file(filename, "peaks", "input")


def test_links_out_of_the_folder_are_not_followed(module, comfyui):
    (comfyui / "secret.wav").write_bytes(b"x")
    link = comfyui / "input" / "link.wav"
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(comfyui / "secret.wav")
    except OSError:
        pytest.skip("no right to make links")
    with pytest.raises(web.HTTPForbidden):
        module.find_file("link.wav", "", "input")


def test_a_file_is_decoded_once_until_it_changes(module, tone, monkeypatch):
    calls: list[Path] = []
    real = module.read_audio
    monkeypatch.setattr(
        module, "read_audio", lambda path, most: calls.append(path) or real(path, most)
    )
    cache = module.AnswerCache(kept=2)

    async def ask(route: str, times: int) -> list[bytes]:
        return await asyncio.gather(*(cache.get(route, tone) for _ in range(times)))

    first = finish(ask(module.PEAKS_ROUTE, 3))
    assert len(calls) == 1
    assert len(set(first)) == 1
    assert json.loads(first[0])["rate"] == RATE
    data, state = tone.read_bytes(), tone.stat()
    tone.write_bytes(data[:-80_000] + bytes(80_000))  # another sound of the same length
    os.utime(tone, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    assert finish(ask(module.PEAKS_ROUTE, 1)) != first[:1]
    finish(ask(module.SPECTROGRAM_ROUTE, 1))
    assert len(calls) == 3
    assert len(cache._answers) == 2


def test_a_small_file_that_decodes_to_much_is_refused(module, comfyui, monkeypatch):
    """A few kB of FLAC can hold hours of silence."""
    path = silent_flac(comfyui / "input" / "silence.flac", 60)
    monkeypatch.setattr(module, "_MOST_DECODED", 1e7)
    for route in (module.PEAKS_ROUTE, module.SPECTROGRAM_ROUTE):
        with pytest.raises(Exception, match=r"more than 0\.01 GB"):
            module.compute(route, path)


def test_files_are_decoded_one_at_a_time_and_once(module, comfyui, monkeypatch):
    """Fifty requests about five files: five decodings, never two at once."""
    paths = [silent_flac(comfyui / "input" / f"silence{n}.flac", 1) for n in range(5)]
    running, most, calls = 0, 0, []

    def compute(route, path):
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.01)
        running -= 1
        calls.append(path)
        return b"{}"

    monkeypatch.setattr(module, "compute", compute)
    cache = module.AnswerCache()

    async def ask() -> None:
        await asyncio.gather(*(cache.get(module.PEAKS_ROUTE, path) for path in paths * 10))

    finish(ask())
    assert sorted(calls) == sorted(paths)
    assert most == 1
