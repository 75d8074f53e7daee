"""Several processes that train together do what one does with the whole batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from sa3_core.checkpoints.load import load_model
from sa3_core.errors import InputError
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from sa3_core.training.share import Share
from sa3_core.training.trainer import Trainer
from tests.helpers.clips import encoded_clips
from tests.helpers.shared_training import SETTINGS, train
from tests.helpers.support import ROOT, rel_l2, tiny_checkpoint
from tests.helpers.texts import spoken


def test_two_processes_give_what_one_does(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-m", "tests.helpers.shared_training", str(tmp_path / "two")]
    both = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    train(tmp_path / "one")
    for process in both:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err.decode()
    one, two = (load_file(tmp_path / name / "training.state") for name in ("one", "two"))
    values = [key for key in one if not key.startswith("exp_avg")]
    joined = [torch.cat([state[key].flatten() for key in values]) for state in (one, two)]
    assert rel_l2(joined[1], joined[0]) <= 1e-5
    moments = [k for k in one if k.startswith("exp_avg.")]
    joined = [torch.cat([state[key].flatten() for key in moments]) for state in (one, two)]
    assert rel_l2(joined[1], joined[0]) <= 1e-5
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("one", "two")]
    assert len(logs[0]) == len(logs[1]) == 3
    for left, right in zip(logs[0][1:], logs[1][1:], strict=True):
        a, b = ([float(x) for x in line.split(",")[-1].split()] for line in (left, right))
        assert len(a) == 4
        assert b == pytest.approx(a, rel=1e-4)


def test_a_batch_is_divided_without_rest():
    shares = [Share(rank, 3) for rank in range(3)]
    assert [i for share in shares for i in share.items(6)] == list(range(6))
    assert [share.leads for share in shares] == [True, False, False]


def test_a_batch_that_cannot_be_divided_is_refused():
    model = load_model(tiny_checkpoint("tiny-s"))
    adapter = TrainedAdapter(model, AdapterSettings("lora", 1, include=("layers.0.ff",)))
    settings = replace(SETTINGS, batch=3)
    with pytest.raises(InputError, match="multiple of 1 parts on 2 devices"):
        Trainer(model, adapter, encoded_clips(), spoken(), settings, share=Share(0, 2))
