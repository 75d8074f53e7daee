"""Files that were replaced while nets made of them are in use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.codec.autoencode import decode, encode
from sa3_core.codec.latent_file import Latents
from sa3_core.errors import CheckpointError
from sa3_core.files.published import TEXT_ENCODER_FOLDER
from sa3_core.files.states import FileStates
from sa3_core.pipeline import GenerateRequest, generate, load_pipeline
from sa3_core.sampling.settings import SampleSettings


def cut(file: Path) -> None:
    """What another process's download over the file does; reading on would end this process."""
    with file.open("r+b") as opened:
        opened.truncate(100)


def replace(file: Path) -> None:
    other = file.with_suffix(".new")
    shutil.copy(file, other)
    os.utime(other, ns=(1, 1))
    os.replace(other, file)


@pytest.mark.parametrize("change", [cut, replace, Path.unlink])
def test_a_changed_file_is_named(tmp_path, change):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"0" * 200)
    states = FileStates.of([tmp_path / "absent", file])
    states.check()
    change(file)
    what = "removed" if change is Path.unlink else "changed or replaced"
    with pytest.raises(CheckpointError, match=rf"model\.safetensors was {what} since it was load"):
        states.check()


def test_a_file_changed_between_header_and_tensors(tiny_s, tmp_path):
    shutil.copytree(tiny_s, tmp_path / "tiny")
    checkpoint = open_checkpoint(tmp_path / "tiny")
    cut(tmp_path / "tiny" / "model.safetensors")
    with pytest.raises(CheckpointError, match="was changed or replaced"):
        checkpoint.tensors("dit", None)


@pytest.fixture
def copy(tiny_s, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_s, tmp_path / "tiny"))


def test_every_net_looks_at_its_file_before_it_runs(copy):
    """A mapped file that was cut ends the process with SIGBUS when it is read."""
    pipeline = load_pipeline(copy)
    request = GenerateRequest(["pad"], seconds=[0.3], settings=SampleSettings(steps=1))
    latents = generate(pipeline, request).latents
    cut(copy / "model.safetensors")
    for run in (
        lambda: generate(pipeline, request),
        lambda: decode(pipeline.autoencoder, latents),
        lambda: decode(pipeline.autoencoder, Latents(latents.frames, latents.seconds), chunk=4),
        lambda: encode(pipeline.autoencoder, torch.zeros(1, 2, 4096)),
    ):
        with pytest.raises(CheckpointError, match=r"model\.safetensors was changed"):
            run()
    pipeline.text.encode(["pad"])
    cut(copy / TEXT_ENCODER_FOLDER / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"t5gemma.*Load it again"):
        pipeline.text.encode(["pad"])
