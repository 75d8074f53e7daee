"""What goes wrong around a training: said clearly, and nothing lost."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from sa3_core.adapters.file import read_adapter
from sa3_core.checkpoints.load import load_model
from sa3_core.datasets.encoded import EncodedClip
from sa3_core.errors import AdapterError, ConfigError, InputError, SA3Error
from sa3_core.files import whole_file
from sa3_core.networks.model import SA3Model
from sa3_core.training import trainer as trainer_module
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from sa3_core.training.picture import draw_progress
from sa3_core.training.run import RunEvents, RunPlan, run
from sa3_core.training.settings import TrainSettings
from sa3_core.training.trainer import Trainer
from tests.helpers.clips import encoded_clips
from tests.helpers.support import tiny_checkpoint
from tests.helpers.texts import spoken

ADAPTER = AdapterSettings("lora", 1, include=("layers.0.ff",))
SETTINGS = TrainSettings(steps=2, frames=4, rate=1e-2)


@pytest.fixture(scope="module")
def model() -> SA3Model:
    return load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32)


def ready(model, settings=SETTINGS, adapter=ADAPTER, clips=None) -> Trainer:
    learner = TrainedAdapter(model, adapter)
    return Trainer(model, learner, clips or encoded_clips(), spoken(), settings)


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    """A folder with a whole run of two steps."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(ready(model), folder, RunPlan())
    return folder


def files(folder) -> tuple[bytes, bytes]:
    return tuple((folder / name).read_bytes() for name in ("lora.safetensors", "training.state"))


@pytest.mark.parametrize("stage", ["before the LoRA", "between LoRA and state", "in the log"])
def test_killed_while_saving_goes_on_to_the_same_file(
    model, finished, tmp_path, monkeypatch, stage
):
    """A kill is a stop without any more saving: BaseException at the stage, and saving refused."""
    run(ready(model), tmp_path, RunPlan(), RunEvents(cancelled=iter((False, True)).__next__))

    class Killed(BaseException):
        pass

    def kill(*args):
        raise Killed

    with monkeypatch.context() as patch:
        if stage == "before the LoRA":
            patch.setattr(TrainedAdapter, "write", kill)
        elif stage == "between LoRA and state":
            patch.setattr(trainer_module, "write_state", kill)
        else:
            patch.setattr("sa3_core.training.logs.Logs.step", kill)
            patch.setattr(TrainedAdapter, "write", kill)
        with pytest.raises(Killed):
            run(ready(model), tmp_path, RunPlan(), resume=True)
    run(ready(model), tmp_path, RunPlan(), resume=True)
    assert files(tmp_path) == files(finished)


def test_a_full_disk_keeps_the_last_state(model, finished, tmp_path, monkeypatch):
    run(ready(model), tmp_path, RunPlan(), RunEvents(cancelled=iter((False, True)).__next__))
    before = files(tmp_path)

    def full(folder):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(whole_file, "_open_part", full)
        with pytest.raises(SA3Error, match="disk is full"):
            run(ready(model), tmp_path, RunPlan(), resume=True)
    assert files(tmp_path) == before
    run(ready(model), tmp_path, RunPlan(), resume=True)
    assert files(tmp_path) == files(finished)


def test_a_gradient_that_is_not_finite_changes_nothing(model, tmp_path):
    one = ready(model)
    tensors = list(one.learner.tensors().values())
    before = [value.detach().clone() for value in tensors]
    tensors[0].register_hook(lambda grad: grad * torch.nan)
    with pytest.raises(InputError, match=r"The gradient of [abc] is not finite in step 1"):
        run(one, tmp_path, RunPlan())
    assert all(torch.equal(x, y) for x, y in zip(before, tensors, strict=True))
    assert not (tmp_path / "log.csv").exists()
    assert ready(model).step == 0


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint_and_names_the_clip(model, tmp_path):
    bad = EncodedClip("broken", torch.full((256, 14), 1e38), 14, 1.3, "warm pad")
    one = ready(model, clips=[*encoded_clips(), bad], settings=replace(SETTINGS, steps=9))
    with pytest.raises(InputError, match="The loss of broken is not finite"):
        run(one, tmp_path, RunPlan())
    again = ready(model, clips=[*encoded_clips(), bad], settings=replace(SETTINGS, steps=9))
    if one.step:
        again.load_state(tmp_path / "training.state")
    assert again.step == one.step


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": replace(SETTINGS, rate=1.0)}, "another setting of rate"),
        ({"settings": replace(SETTINGS, batch=2)}, "another setting of batch"),
        ({"adapter": replace(ADAPTER, alpha=2.0)}, "another setting of adapter"),
        ({"adapter": replace(ADAPTER, exclude=("proj",))}, "another setting of adapter"),
        ({"clips": encoded_clips()[:1]}, "another setting of clips"),
    ],
)
def test_a_state_of_another_run_is_refused_by_name(model, finished, change, message):
    with pytest.raises(AdapterError, match=message):
        ready(model, **change).load_state(finished / "training.state")


def test_a_state_of_another_model_is_refused(model, finished):
    with pytest.raises(AdapterError, match="another setting of model"):
        ready(replace(model, name="other")).load_state(finished / "training.state")


def damaged(path, change):
    """A state with its JSON or tensors changed."""
    tensors = load_file(path)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        state = json.loads(file.metadata()["training_state"])
    change(tensors, state)
    save_file(tensors, path, {"training_state": json.dumps(state)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, state: tensors.popitem(), "another setting of layers"),
        (
            lambda tensors, state: tensors.update({k: v[:1] for k, v in tensors.items()}),
            "another setting of layers",
        ),
        (lambda tensors, state: state.pop("updates"), "does not tell its steps"),
        (lambda tensors, state: state.update(step="two"), "does not tell its steps"),
        (lambda tensors, state: state.update(step=-1), "does not tell its steps"),
        (lambda tensors, state: state.update(step=True), "does not tell its steps"),
    ],
)
def test_a_damaged_state_is_refused(model, finished, tmp_path, change, message):
    path = tmp_path / "training.state"
    path.write_bytes((finished / "training.state").read_bytes())
    damaged(path, change)
    with pytest.raises(AdapterError, match=message):
        ready(model).load_state(path)


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_state_that_was_cut_is_refused(model, finished, tmp_path, cut):
    path = tmp_path / "training.state"
    path.write_bytes((finished / "training.state").read_bytes()[:cut])
    with pytest.raises(AdapterError, match="Training state"):
        ready(model).load_state(path)


def test_logs_that_another_program_spoilt_stop_nothing(tmp_path, model):
    run(ready(model), tmp_path, RunPlan())
    log = tmp_path / "log.csv"
    spoilt = ["\0\0,x", "1;2;3", "3,,,,,,,,", "4,nan,1,1,1,1,1,0.5,1", '5,"', "6,1,1,1,1,1,1,0.5"]
    log.write_text(log.read_text() + "\n".join(spoilt) + "\n", encoding="utf-8")
    assert draw_progress(tmp_path) == tmp_path / "progress.png"
    log.write_bytes(bytes(range(256)))
    assert draw_progress(tmp_path) is None
    run(ready(model, replace(SETTINGS, steps=3)), tmp_path, RunPlan(), resume=True)
    assert (tmp_path / "log.csv").exists()


def test_a_run_that_is_finished_goes_on_without_a_step(model, finished, tmp_path):
    for name in ("training.state", "lora.safetensors"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    seen = []
    run(ready(model), tmp_path, RunPlan(), RunEvents(seen.append), resume=True)
    assert not seen
    assert files(tmp_path) == files(finished)


def test_a_file_in_the_place_of_the_folder_is_refused(model, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(InputError, match="was not saved"):
        run(ready(model), tmp_path / "run", RunPlan())


def test_a_lora_that_is_damaged_is_not_started_from(finished, tmp_path):
    path = tmp_path / "lora.safetensors"
    path.write_bytes((finished / "lora.safetensors").read_bytes()[:-5])
    with pytest.raises(AdapterError):
        read_adapter(path)


def test_a_shift_that_is_not_there_is_refused_before_training(model):
    config = replace(model.config, train_shift={"type": "fancy"})
    with pytest.raises(ConfigError, match="'fancy' is not implemented"):
        ready(replace(model, config=config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch": -1}, "batch is -1"),
        ({"rate": 0.0}, "rate is 0"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"schedule": "linear"}, "schedule is 'linear'"),
        ({"clip_norm": -1.0}, "clip_norm is -1"),
        ({"seed": -1}, "seed"),
        ({"tag_orders": 0}, "tag_orders is 0"),
    ],
)
def test_settings_out_of_range_are_named(change, message):
    with pytest.raises(InputError, match=message):
        replace(SETTINGS, **change)
