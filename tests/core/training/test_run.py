"""A run in its folder: logs, validation, picture, cancelling, and what a kill leaves."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from sa3_core.checkpoints.load import load_model
from sa3_core.errors import InputError
from sa3_core.networks.model import SA3Model
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from sa3_core.training.logs import read_rows
from sa3_core.training.run import RunEvents, RunPlan, run
from sa3_core.training.settings import TrainSettings
from sa3_core.training.trainer import Trainer
from sa3_core.training.validation import Validator, hold_out, stopping_hint
from tests.helpers.clips import encoded_clips as clips
from tests.helpers.support import tiny_checkpoint
from tests.helpers.texts import spoken

ADAPTER = AdapterSettings("lora", 1, include=("layers.0.ff",))


@pytest.fixture(scope="module")
def model() -> SA3Model:
    return load_model(tiny_checkpoint("tiny-s"))


def ready(model: SA3Model, steps: int = 2) -> tuple[Trainer, Validator]:
    learnt, held = hold_out(clips(), 1)
    settings = TrainSettings(steps=steps, frames=4, rate=1e-2)
    trainer = Trainer(model, TrainedAdapter(model, ADAPTER), learnt, spoken(), settings)
    return trainer, Validator(model, held, spoken(), 4)


def test_a_run_logs_validates_draws_and_tells(model, tmp_path):
    trainer, validator = ready(model)
    steps, found, saved = [], [], []
    events = RunEvents(
        steps.append, lambda v, hint: found.append(v), lambda path, step: saved.append(path.name)
    )
    path = run(trainer, tmp_path, RunPlan(1, validator=validator), events)
    assert path == tmp_path / "lora.safetensors"
    assert [p.report.step for p in steps] == [1, 2]
    assert (steps[-1].total, steps[-1].left) == (2, 0)
    assert saved == ["lora-000001.safetensors", "lora-000002.safetensors"]
    assert [v.step for v in found] == [0, 1, 2]
    assert found[0].changes == {"0": 0.0}
    assert found[0].losses != found[2].losses
    assert found[2].changes["0"] > found[1].changes["0"] > 0
    rows = read_rows(tmp_path / "log.csv", ("step", "loss", "items"))
    assert [row["step"] for row in rows] == [[1], [2]]
    assert rows[1]["loss"][0] == pytest.approx(steps[1].report.loss, rel=1e-5)
    held = read_rows(tmp_path / "validation.csv", ("loss", "t=0.9"))
    assert [r["loss"][0] for r in held] == pytest.approx([v.loss for v in found], rel=1e-5)
    assert held[2]["t=0.9"][0] == pytest.approx(found[2].losses[4], rel=1e-5)
    picture = np.asarray(Image.open(tmp_path / "progress.png"))
    for colour in ((31, 90, 160), (200, 80, 20), (110, 150, 90)):  # mean, held out, by level
        assert (picture == colour).all(axis=-1).any(), colour


def test_the_same_weights_validate_alike_and_training_is_not_disturbed(model, tmp_path):
    plain, _ = ready(model, 1)
    run(plain, tmp_path / "plain", RunPlan())
    trainer, validator = ready(model, 1)
    run(trainer, tmp_path / "seen", RunPlan(1, validator=validator))
    files = [(tmp_path / name / "lora.safetensors").read_bytes() for name in ("plain", "seen")]
    assert files[0] == files[1]
    with trainer.learner.attached():
        assert validator.run(trainer.learner, 2) == validator.run(trainer.learner, 2)


def test_cancelled_and_gone_on_is_the_same_file(model, tmp_path):
    whole, first, second = (ready(model)[0] for _ in range(3))
    run(whole, tmp_path / "whole", RunPlan())
    run(first, tmp_path / "parts", RunPlan(), RunEvents(cancelled=lambda: first.step == 1))
    assert first.step == 1
    # as a kill leaves it: a line of a step that was not saved, and half of another
    with (tmp_path / "parts" / "log.csv").open("a") as file:
        file.write("2,9,9,9,9,9,9,0.5,9\n3,0.1")
    run(second, tmp_path / "parts", RunPlan(), resume=True)
    for name in ("lora.safetensors", "training.state"):
        files = [(tmp_path / folder / name).read_bytes() for folder in ("whole", "parts")]
        assert files[0] == files[1]
    logs = [read_rows(tmp_path / folder / "log.csv", ("loss",)) for folder in ("whole", "parts")]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 2


def test_an_error_on_the_way_saves_what_was_learnt(model, tmp_path):
    trainer, _ = ready(model)

    def stop(progress):
        raise RuntimeError("the preview failed")

    with pytest.raises(RuntimeError, match="preview"):
        run(trainer, tmp_path, RunPlan(), RunEvents(stop))
    again, _ = ready(model)
    again.load_state(tmp_path / "training.state")
    assert again.step == 1


def test_tensorboard_is_written_where_it_is_installed(model, tmp_path, monkeypatch):
    seen = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            seen.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            seen.append((name, step))

        def close(self):
            seen.append("closed")

    module = ModuleType("torch.utils.tensorboard.writer")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", module)
    trainer, _ = ready(model, 1)
    run(trainer, tmp_path, RunPlan())
    assert seen[0] == (str(tmp_path / "tensorboard"), 1)
    assert ("train/loss", 1) in seen
    assert seen[-1] == "closed"


def test_the_same_clips_are_held_out_whatever_their_order():
    first = hold_out(clips(), 1)
    second = hold_out(clips()[::-1], 1)
    assert [c.name for c in first[1]] == [c.name for c in second[1]]
    assert {c.name for c in first[0] + first[1]} == {"a", "b", "c"}
    with pytest.raises(InputError, match="none is left to learn from"):
        hold_out(clips(), 3)
    assert not torch.equal(first[0][0].latents, first[1][0].latents)


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        ([2.0, 1.5, 1.2], ""),
        ([2.0, 1.5, 1.2, 1.0, 0.8], ""),
        ([2.0, 1.5, 1.0, 1.1, 1.2, 1.3], "lowest at step 200 (1)"),
        ([2.0, 1.02, 1.01, 1.0, 0.99, 0.98], "fast until step 100"),
    ],
)
def test_hints_on_stopping(losses, says):
    hint = stopping_hint([(100 * place, loss) for place, loss in enumerate(losses)])
    assert says in hint
    assert bool(says) == bool(hint)
