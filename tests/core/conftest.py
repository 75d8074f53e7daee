"""Fixtures of the tests that write checkpoint files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

SINGLE_FILE = "stable_audio_3_small_music.safetensors"


@pytest.fixture(scope="session")
def tiny_weights(tiny_s: Path) -> dict[str, Tensor]:
    """All tensors of the tiny SAME-S style checkpoint; not to be changed in place."""
    return load_file(tiny_s / "model.safetensors")


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """write(tensors, "file.safetensors") -> path in a temporary folder, emptied afterwards."""

    def writer(tensors: dict[str, Tensor], name: str = SINGLE_FILE) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
        return path

    yield writer
    shutil.rmtree(tmp_path, ignore_errors=True)  # some 30 files of 27 MB otherwise stay
