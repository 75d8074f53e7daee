"""Datasets of Underfit: captions where it looks, its encoded clips, and ours as it reads them.

What its files hold is as its dataset_processing/pre_encode.py writes it, and what it asks of ours
as its dashboard/server.py reads it (github.com/dada-bots/underfit, commit 98df6ed).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import format_for
from sa3_core.checkpoints.load import load_autoencoder
from sa3_core.datasets.encode import encode_folder
from sa3_core.datasets.encoded import read_folder
from sa3_core.datasets.folder import list_recordings
from sa3_core.errors import LatentFileError
from sa3_core.geometry import HOP
from tests.helpers.support import load_golden, tiny_checkpoint

TAGS = {"title": "Rain", "artist": "Zork", "genre": "dub", "bpm": "90", "date": "2024", "mood": "x"}


def recording(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * torch.randn(2, 9000, generator=torch.Generator().manual_seed(len(path.name)))
    write_audio(path, noise, 44100, format_for(path, 16))
    return path


def underfit_clip(folder: Path, relative: str, key: str, tags: dict[str, str]) -> None:
    """A pair of files as it writes them."""
    latents = load_golden("training/pre_encode_tiny-s")[f"pad.{key}"].numpy()
    valid = {"a": 14, "b": 10}[key]
    path = folder / "latents" / "sa3-sm-music" / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, latents)
    notes = {
        "path": f"/sounds/{Path(relative).with_suffix('.wav')}",
        "relpath": relative,
        "src_relpath": str(Path(relative).with_suffix(".wav")),
        "seconds_total": round(valid * HOP / 44100, 3),
        "seconds_start": 0,
        "audio_samples": valid * HOP,
        "latent_shape": list(latents.shape),
        "padding_mask": [1] * valid + [0] * (latents.shape[1] - valid),
    }
    path.with_suffix(".json").write_text(json.dumps(notes | tags), encoding="utf-8")


def test_its_clips_are_read_with_their_folders_and_tags(tmp_path):
    underfit_clip(tmp_path, "live/01.npy", "a", TAGS)
    underfit_clip(tmp_path, "studio/01.npy", "b", {"prompt": "warm pad", "genre": "dub"})
    live, studio = read_folder(tmp_path, "same-s")
    assert live.prompt == "Artist: Zork, Title: Rain, Year: 2024, BPM: 90, Genre: dub"
    assert studio.prompt == "warm pad"
    assert [clip.valid for clip in (live, studio)] == [14, 10]
    assert [clip.name for clip in (live, studio)] == [
        "latents/sa3-sm-music/live/01",
        "latents/sa3-sm-music/studio/01",
    ]


def test_a_clip_of_it_without_any_words_is_named(tmp_path):
    underfit_clip(tmp_path, "01.npy", "a", {"mood": "x"})
    with pytest.raises(LatentFileError, match=r"01\.json lacks prompt"):
        read_folder(tmp_path)


def test_captions_lie_in_folders_of_their_own(tmp_path):
    for name, place, text in (
        ("one", "songs/json/one.json", json.dumps({"prompt": "first"})),  # below
        ("two", "songs/txt/two.txt", "second"),
        ("three", "json/three.json", json.dumps({"mood": "third", "bpm": 90})),  # beside
        ("four", "txt/four.txt", "fourth"),
    ):
        recording(tmp_path / "songs" / f"{name}.wav")
        caption = tmp_path / place
        caption.parent.mkdir(parents=True, exist_ok=True)
        caption.write_text(text, encoding="utf-8")
    found = {r.relative: r.caption for r in list_recordings(tmp_path)}
    assert found == {
        "songs/four.wav": "fourth",
        "songs/one.wav": "first",
        "songs/three.wav": "mood: third, bpm: 90",
        "songs/two.wav": "second",
    }


def test_no_caption_is_taken_from_out_of_the_dataset(tmp_path):
    recording(tmp_path / "songs" / "a.wav")
    (tmp_path / "txt").mkdir()
    (tmp_path / "txt" / "a.txt").write_text("another's", encoding="utf-8")
    assert list_recordings(tmp_path / "songs")[0].caption == ""


def test_it_finds_what_it_needs_in_our_files(tmp_path):
    """Its import takes pairs of files whose array is [256, T], and keeps words and these keys."""
    recording(tmp_path / "songs" / "a.wav").with_suffix(".txt").write_text("pad", encoding="utf-8")
    net = load_autoencoder(tiny_checkpoint("tiny-s"))
    encode_folder(list_recordings(tmp_path / "songs"), net, tmp_path / "out", 4 * HOP)
    (path,) = (path for path in (tmp_path / "out").glob("*.npy") if path.name != "silence.npy")
    notes = json.loads(path.with_suffix(".json").read_text("utf-8"))
    array = np.load(path)
    assert list(array.shape) == notes["latent_shape"] == [256, 3]
    assert array.dtype == np.float32
    assert notes["audio_samples"] == round(notes["seconds_total"] * 44100) == 9000
    assert notes["padding_mask"] == [1, 1, 1]
    assert (notes["prompt"], notes["seconds_start"]) == ("pad", 0)
