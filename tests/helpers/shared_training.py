"""A short training by one of several processes: `python -m tests.helpers.shared_training OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from sa3_core.checkpoints.load import load_model
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from sa3_core.training.run import RunPlan, run
from sa3_core.training.settings import TrainSettings
from sa3_core.training.share import joined
from sa3_core.training.trainer import Trainer
from tests.helpers.clips import encoded_clips
from tests.helpers.support import tiny_checkpoint
from tests.helpers.texts import spoken

SETTINGS = TrainSettings(steps=2, batch=4, frames=4, rate=1e-3, clip_norm=1.0)


def train(out: Path) -> None:
    """Two steps of four clips each, written to `out`."""
    torch.set_num_threads(1)
    with joined(torch.device("cpu")) as (share, _):
        model = load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32)
        adapter = TrainedAdapter(model, AdapterSettings("dora-rows", 2, dropout=0.1))
        trainer = Trainer(model, adapter, encoded_clips(), spoken(), SETTINGS, share=share)
        run(trainer, out, RunPlan())


if __name__ == "__main__":
    train(Path(sys.argv[1]))
