"""All weights trained: gradients of every weight, the model written, stopping and going on."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from sa3_core.checkpoints.load import load_model
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.errors import InputError
from sa3_core.training.settings import TrainSettings
from sa3_core.training.trainer import Trainer
from sa3_core.training.whole_model import TrainedModel
from tests.helpers.clips import encoded_clips as clips
from tests.helpers.support import rel_l2, tiny_checkpoint
from tests.helpers.texts import spoken

SETTINGS = TrainSettings(steps=4, frames=4, rate=1e-3)


def trainer(settings=SETTINGS, dtype=torch.float32) -> Trainer:
    path = tiny_checkpoint("tiny-s")
    model = load_model(path, dtype=dtype)
    return Trainer(model, TrainedModel(model, open_checkpoint(path)), clips(), spoken(), settings)


def run(one: Trainer, steps: int) -> list[float]:
    with one.learner.attached():
        return [one.run_step().loss for _ in range(steps)]


def test_every_weight_gets_its_gradient():
    one = trainer(replace(SETTINGS, rate=1e-9))
    run(one, 1)
    tensors = one.learner.tensors()
    missing = [name for name, value in tensors.items() if value.grad is None]
    assert not missing
    key = "model.model.transformer.layers.1.ff.ff.2.weight"
    place, step = (3, 5), 1e-2
    losses = []
    for sign in (1, -1):
        other = trainer(replace(SETTINGS, rate=1e-9))
        with torch.no_grad():
            other.learner.tensors()[key][place] += sign * step
        losses += run(other, 1)
    slope = (losses[0] - losses[1]) / (2 * step)
    assert slope == pytest.approx(float(tensors[key].grad[place]), rel=0.02, abs=2e-6)


def test_the_written_model_loads_and_only_its_weights_changed(tmp_path):
    source = tiny_checkpoint("tiny-s")
    before = (source / "model.safetensors").read_bytes()
    one = trainer()
    first = run(one, 2)[0]
    one.step = 0  # the same draws again
    assert run(one, 1)[0] < first
    assert min(one.learner.changes().values()) > 1e-4
    assert set(one.learner.changes()) == {"0", "1", "2", "conditioner", "ends"}
    one.learner.write(tmp_path / "model", {"step": 3})
    assert (source / "model.safetensors").read_bytes() == before
    old, new = (load_file(path / "model.safetensors") for path in (source, tmp_path / "model"))
    changed = {key for key in old if not torch.equal(old[key], new[key])}
    assert old.keys() == new.keys()
    assert changed == set(one.learner.tensors())
    loaded = load_model(tmp_path / "model", dtype=torch.float32)
    assert loaded.objective == load_model(source).objective
    for key, value in one.learner.tensors().items():
        if key.startswith("model.model."):
            assert torch.equal(loaded.dit.get_parameter(key.removeprefix("model.model.")), value)
    assert (tmp_path / "model" / "t5gemma-b-b-ul2").is_dir()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_stopped_and_gone_on_is_the_same_to_the_bit(tmp_path, dtype):
    whole, first, second = (trainer(dtype=dtype) for _ in range(3))
    run(whole, 2)
    run(first, 1)
    first.save_state(tmp_path / "state")
    second.load_state(tmp_path / "state")
    run(second, 1)
    for name, one in (("whole", whole), ("resumed", second)):
        one.save_state(tmp_path / name)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "resumed").read_bytes()


def test_half_precision_keeps_its_weights_in_float32(tmp_path):
    one, exact = trainer(dtype=torch.bfloat16), trainer()
    start = {key: value.detach().clone() for key, value in exact.learner.tensors().items()}
    assert all(torch.equal(value, start[key]) for key, value in one.learner.tensors().items())
    run(one, 2)
    run(exact, 2)
    live = dict(one._model.dit.named_parameters())["transformer.project_in.weight"]
    master = one.learner.tensors()["model.model.transformer.project_in.weight"]
    assert (live.dtype, master.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(live, master.bfloat16())
    assert not torch.equal(live.float(), master)
    moved = [
        torch.cat([(t.learner.tensors()[k] - start[k]).flatten() for k in start])
        for t in (one, exact)
    ]
    assert rel_l2(*moved) < 0.5


def test_an_overflow_in_float16_changes_nothing_and_scales_less():
    one = trainer(dtype=torch.float16)
    one._scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = {key: value.detach().clone() for key, value in one.learner.tensors().items()}
    with one.learner.attached():
        report = one.run_step()
    assert (report.skipped, report.step) == (True, 1)
    assert all(torch.equal(before[k], v) for k, v in one.learner.tensors().items())
    assert one._scaler.get_scale() == 2.0**39


def test_a_single_file_is_refused(tmp_path):
    path = tmp_path / "alone.safetensors"
    shutil.copy(tiny_checkpoint("tiny-s") / "model.safetensors", path)
    model = load_model(path)
    with pytest.raises(InputError, match="Train from a model folder"):
        TrainedModel(model, open_checkpoint(path))


def test_the_shift_of_the_config_is_followed():
    model = load_model(tiny_checkpoint("tiny-s"))
    stated = {"type": "flux", "alpha_min": 2.0}
    other = replace(model, config=replace(model.config, train_shift=stated))
    learner = TrainedModel(model, open_checkpoint(tiny_checkpoint("tiny-s")))
    levels = [Trainer(one, learner, clips(), spoken(), SETTINGS).shift for one in (model, other)]
    assert levels[0].max_length == 4096
    assert levels[1].alpha_min == 2.0
