"""Tiny extractors whose weights lie in a folder, and clips for them to hear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.evaluation import clap, openl3, passt  # noqa: F401 - they register themselves
from sa3_core.evaluation.extractor import EXTRACTORS, MissingExtractorError

RATE = 8000
WEIGHTS = "tiny.npy"


class TinyExtractor:
    """Rows of five numbers: a random map of the power in frames of a tenth of a second."""

    sample_rate = RATE

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights

    def embed(self, audio: np.ndarray) -> np.ndarray:
        frames = audio[: len(audio) // 800 * 800].reshape(-1, 800)
        powers = (frames.reshape(len(frames), 16, 50).astype(np.float64) ** 2).mean(axis=2)
        return np.tanh(30 * powers @ self.weights)

    def embed_texts(self, texts):
        lengths = np.array([[len(text) % (n + 2) for n in range(16)] for text in texts], float)
        return np.tanh(lengths @ self.weights)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with the tiny extractor's weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    np.save(folder / WEIGHTS, np.random.default_rng(3).normal(size=(16, 5)))
    return folder


@pytest.fixture
def tiny(monkeypatch, weights) -> TinyExtractor:
    """Stands in for every extractor, at a rate that needs no resampling."""

    def load(folder: Path | None, device: torch.device) -> TinyExtractor:
        assert device.type == "cpu"
        if folder is None or not (folder / WEIGHTS).is_file():
            raise MissingExtractorError(f"The tiny extractor needs {WEIGHTS} in {folder}.")
        return TinyExtractor(np.load(folder / WEIGHTS, allow_pickle=False))

    for name in ("openl3-music", "openl3-env", "passt", "clap"):
        monkeypatch.setitem(EXTRACTORS._items, name, load)
    monkeypatch.setattr("sa3_core.evaluation.scores._FD_RATE", RATE)
    return load(weights, torch.device("cpu"))


def write_clips(folder: Path, count: int, seed: int = 0, seconds: float = 1.0) -> list[Path]:
    """Stereo noise of several levels, `0.wav` and on."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = torch.Generator().manual_seed(seed)
    paths = []
    for number in range(count):
        shape = torch.rand(2, 20, generator=rng).repeat_interleave(round(seconds * RATE / 20), 1)
        audio = torch.randn(shape.shape, generator=rng) * shape * 0.2
        paths.append(folder / f"{number}.wav")
        write_audio(paths[-1], audio, RATE, FORMATS["wav-32f"])
    return paths
