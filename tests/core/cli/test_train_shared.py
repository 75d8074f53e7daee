"""`torchrun ... -m sa3_core train`: two processes learn what one does with the batch of both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sa3_core.adapters.file import read_adapter
from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import format_for
from sa3_core.cli.main import main
from tests.helpers.support import ROOT, load_golden, rel_l2, tiny_checkpoint

LEAST = ("--steps", "2", "--crop", "0.4", "--rank", "2", "--lr", "1e-3", "--include", "layers[0]")


def encoded(folder: Path) -> Path:
    """Two clips with captions of their own."""
    golden, sounds = load_golden("training/pre_encode_tiny-s"), folder / "sounds"
    sounds.mkdir()
    for name, rate in (("a", 44100), ("b", 48000)):
        path = sounds / f"{name}.wav"
        write_audio(path, golden[f"pcm.{name}"].float() / 32768, rate, format_for(path, 16))
    command = ["pre-encode", str(sounds), "--model", str(tiny_checkpoint("tiny-s"))]
    assert main([*command, "--out", str(folder / "latents"), "--caption", "{stem} pad"]) == 0
    return folder / "latents"


def values(state: Path, part: str) -> torch.Tensor:
    """All parameters, or all first moments, one behind the other."""
    tensors = load_file(state)
    names = [k for k in sorted(tensors) if k.startswith("exp_avg.") == (part == "moments")]
    return torch.cat([tensors[k].flatten() for k in names if not k.startswith("exp_avg_sq")])


@pytest.mark.soak  # its short form, without the command line: tests/core/training/test_share.py
def test_torchrun_gives_what_one_process_gives_with_the_double_batch(tmp_path):
    command = ["train", "--model", str(tiny_checkpoint("tiny-s")), "--data", str(encoded(tmp_path))]
    command += ["--allow-post-trained", "--device", "cpu", *LEAST]
    one, two = tmp_path / "one", tmp_path / "two"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    done = subprocess.run(
        [*launch, "2", "-m", "sa3_core", *command, "--batch", "2", "--out", str(two)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(two / "lora.safetensors")]  # one of them speaks
    assert main([*command, "--batch", "4", "--out", str(one)]) == 0
    for part in ("values", "moments"):
        found = [values(folder / "training.state", part) for folder in (two, one)]
        assert rel_l2(*found) <= 1e-5
    assert len((two / "log.csv").read_text().splitlines()) == 3
    pair = [read_adapter(folder / "lora.safetensors") for folder in (two, one)]
    assert pair[0].layers.keys() == pair[1].layers.keys()
    learnt = [
        torch.cat([layer.low_rank.b.flatten() for layer in file.layers.values()]) for file in pair
    ]
    assert float(learnt[1].abs().max()) > 0
    assert rel_l2(*learnt) <= 2e-3  # of float16
