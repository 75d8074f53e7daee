"""Kinds of files with sound and latents, dataset notes, and texts that people type."""

from __future__ import annotations

import io
import json
import logging
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from sa3_core.adapters.layer_filter import LayerFilter
from sa3_core.audio.file import read_audio, write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.codec.latent_file import Latents, read_latents
from sa3_core.datasets.encoded import read_clip
from sa3_core.datasets.folder import CaptionRule, caption_of, list_recordings
from sa3_core.editing.region_request import RegionRequest
from sa3_core.editing.regions import parse_durations, parse_time
from sa3_core.sampling.noise import parse_seeds
from sa3_core.sampling.schedule import parse_shift_options

from .mutants import (
    change_bytes,
    change_json,
    change_npy,
    change_safetensors,
    change_text,
    spoil_text,
)
from .trial import Attempt, must, plain_array


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _latents() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((256, 8), dtype=np.float32)


def _check_latents(found: Latents, wanted: np.ndarray) -> None:
    must(found.frames.dtype == torch.float32, f"{found.frames.dtype}")
    right = np.asarray(wanted, np.float32).reshape(found.frames.shape)
    must(np.array_equal(found.frames.numpy(), right), "other values than the file's")
    must(bool(np.isfinite(right).all()), "not finite")


def npy_latents(folder: Path) -> Attempt:
    """One piece in a .npy file."""
    good, path = _npy(_latents()), folder / "a.npy"

    def attempt(rng: random.Random) -> None:
        path.write_bytes(change_npy(rng, good))
        found = read_latents(path)
        _check_latents(found, np.load(path, allow_pickle=False))

    return attempt


def safetensors_latents(folder: Path) -> Attempt:
    """A batch in a .safetensors file."""
    frames = torch.from_numpy(np.stack([_latents(), _latents()]))
    seconds = torch.tensor([0.5, 0.7], dtype=torch.float64)
    good = save({"latents": frames, "seconds": seconds})
    path = folder / "a.safetensors"

    def attempt(rng: random.Random) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(change_safetensors(rng, good))
        _check_latents(read_latents(path), plain_array(path, "latents"))

    return attempt


def encoded_clip(folder: Path) -> Attempt:
    """A clip for training: its array, or the notes beside it."""
    array, notes = folder / "c.npy", folder / "c.json"
    good = {"prompt": "warm pad", "seconds_total": 0.6, "padding_mask": [1] * 7 + [0]}
    good |= {"autoencoder": "same-s", "relpath": "a/b.wav", "sample_rate": 44100}

    def attempt(rng: random.Random) -> None:
        array.write_bytes(_npy(_latents()))
        notes.write_text(json.dumps(good))
        if rng.randrange(2):
            array.write_bytes(change_npy(rng, array.read_bytes()))
        elif rng.randrange(4):
            notes.write_text(json.dumps(change_json(rng, good)[0]))
        else:
            notes.write_bytes(spoil_text(rng, json.dumps(good).encode()))
        clip = read_clip(array)
        must(clip.latents.shape[0] == 256, f"{clip.latents.shape}")
        must(bool(torch.isfinite(clip.latents).all()), "not finite")
        must(0 < clip.valid <= clip.latents.shape[1], f"{clip.valid}")
        must(0 < clip.seconds <= 1e5 and isinstance(clip.prompt, str), f"{clip.seconds}")
        clip.prompt.encode()

    return attempt


def captions(folder: Path) -> Attempt:
    """Captions as JSON and text, and a list of files."""
    sound = folder / "a.wav"
    write_audio(sound, torch.zeros(1, 64), 44100, FORMATS["wav-16"])
    good = {"prompt": "warm pad", "caption": "pad", "bpm": 120, "tags": ["a"], "more": {"key": "C"}}

    def attempt(rng: random.Random) -> None:
        for suffix in (".json", ".txt"):
            sound.with_suffix(suffix).unlink(missing_ok=True)
        listing = folder / "filelist.txt"
        listing.unlink(missing_ok=True)
        way = rng.randrange(6)
        if way <= 2:
            sound.with_suffix(".json").write_text(json.dumps(change_json(rng, good)[0]))
        elif way == 3:
            sound.with_suffix(".json").write_bytes(spoil_text(rng, json.dumps(good).encode()))
        elif way == 4:
            sound.with_suffix(".txt").write_bytes(change_bytes(rng, "warm p\u00e4d".encode()))
        else:
            text = change_text(rng, "a.wav\n\na.wav\n").encode(errors="surrogatepass")
            listing.write_bytes(text)
            must(all(r.path.is_file() for r in list_recordings(folder)), "no file")
            return
        found = caption_of(sound, "a.wav", CaptionRule())
        must(found == found.strip() and "nan" not in found.split(), f"{found[:80]!r}")
        found.encode()

    return attempt


class Heard(logging.Handler):
    """Counts warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def audio(name: str) -> Callable[[Path], Attempt]:
    """A kind of audio file that we write ourselves."""

    def make(folder: Path) -> Attempt:
        path = folder / f"a{FORMATS[name].suffix}"
        generator = torch.Generator().manual_seed(1)
        length = 144_000 if "opus" in name else 14_400  # an Opus page lasts a second
        tone = torch.sin(torch.arange(length) / 20) * 0.4
        sound = tone + 0.1 * torch.randn(2, length, generator=generator)
        write_audio(path, sound.clamp(-1, 1), 48000, FORMATS[name], {"title": "a"})
        good, (whole, _) = path.read_bytes(), read_audio(path)
        heard = Heard()

        def attempt(rng: random.Random) -> None:
            cut = rng.randrange(3) == 0
            data = good[: rng.randrange(len(good))] if cut else change_bytes(rng, good)
            path.write_bytes(data)
            heard.count = 0
            logger = logging.getLogger("sa3_core.audio")
            logger.addHandler(heard)
            try:
                found, rate = read_audio(path)
            finally:
                logger.removeHandler(heard)
            must(bool(torch.isfinite(found).all()) and rate > 0, f"{rate}, or not finite")
            must(found.numel() <= 50 * whole.numel(), f"{found.shape} out of nowhere")
            other = found.shape != whole.shape or not torch.equal(found, whole)
            if cut or name.startswith("flac"):
                must(not other or heard.count > 0, f"{tuple(found.shape)} of {len(data)} bytes")

        return attempt

    return make


TEXTS = (
    "4-8, 16.5-20 0:30-1:02:03; 90%-100%",
    "bar 5-9, bar 12",
    "12.5, 1:02.5; 30",
    "7, 9, 20-23",
    "rate=0.5, anchor_length=1500",
    "self_attn, layers[0-5], -ff",
)


def texts(folder: Path) -> Attempt:
    """What people type: regions, durations, seeds, a shift's parameters, layers."""

    def attempt(rng: random.Random) -> None:
        kind = rng.randrange(len(TEXTS))
        text = change_text(rng, TEXTS[kind])
        if kind <= 1:
            for region in RegionRequest(text, bpm=120.0).resolve([4000.0])[0]:
                must(0 <= region.start < min(region.end, 4000.0), f"{text!r:.50}: {region}")
                must(math.isfinite(region.end), f"{region}")
        elif kind == 2:
            must(all(0 < v < math.inf for v in parse_durations(text)), f"{text!r:.50}")
            parse_time(text.split(",")[0])
        elif kind == 3:
            must(all(0 <= seed < 2**64 for seed in parse_seeds(text)), f"{text!r:.50}")
        elif kind == 4:
            must(all(map(math.isfinite, parse_shift_options(text).values())), f"{text!r:.50}")
        else:
            LayerFilter(text).matches("model.model.transformer.layers.3.self_attn.to_qkv.weight")

    return attempt
