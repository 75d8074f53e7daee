"""The loop: which clips are seen, and that stopping, splitting and faults change nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sa3_core.checkpoints.load import load_model
from sa3_core.datasets.encoded import EncodedClip
from sa3_core.errors import AdapterError, InputError
from sa3_core.networks.model import SA3Model
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter, write_adapter
from sa3_core.training.batches import cut, pick, prompts_of, tag_orders
from sa3_core.training.settings import TrainSettings
from sa3_core.training.trainer import Trainer
from tests.helpers.clips import encoded_clips
from tests.helpers.support import tiny_checkpoint
from tests.helpers.texts import spoken

SETTINGS = TrainSettings(steps=6, batch=2, frames=12, rate=1e-3, schedule="inverse", clip_norm=1.0)


@pytest.fixture(scope="module")
def model() -> SA3Model:
    return load_model(tiny_checkpoint("tiny-s"))


clips = encoded_clips


def trainer(model: SA3Model, settings: TrainSettings = SETTINGS, found=None) -> Trainer:
    adapter = TrainedAdapter(model, AdapterSettings("dora-rows", 2, dropout=0.1))
    return Trainer(model, adapter, clips() if found is None else found, spoken(), settings)


def run(one: Trainer, steps: int) -> None:
    with one.learner.attached():
        for _ in range(steps):
            one.run_step()


def test_stop_and_resume_give_the_same_file_as_no_stop(model, tmp_path):
    whole, first, second = (trainer(model) for _ in range(3))
    run(whole, 4)
    run(first, 2)
    first.save_state(tmp_path / "state")
    second.load_state(tmp_path / "state")
    assert second.step == 2
    run(second, 2)
    for name, one in (("whole", whole), ("resumed", second)):
        write_adapter(tmp_path / f"{name}.safetensors", one.learner, {"step": one.step})
        one.save_state(tmp_path / f"{name}.state")
    for suffix in ("safetensors", "state"):
        files = [(tmp_path / f"{name}.{suffix}").read_bytes() for name in ("whole", "resumed")]
        assert files[0] == files[1]


def test_a_batch_in_parts_is_the_batch(model):
    whole, parts = trainer(model), trainer(model, replace(SETTINGS, accumulate=2, recompute=True))
    with whole.learner.attached():
        one = whole.run_step()
    with parts.learner.attached():
        two = parts.run_step()
    assert two.loss == pytest.approx(one.loss, rel=1e-6)
    assert two.items == pytest.approx(one.items, rel=1e-6)
    assert len(one.levels) == 2
    wanted = {name: value.grad for name, value in whole.learner.tensors().items()}
    largest = max(float(grad.norm()) for grad in wanted.values())
    for name, grad in wanted.items():
        difference = float((parts.learner.tensors()[name].grad - grad).norm())
        # Nothing but rounding is left where a layer gets nothing: where nothing is kept, no mask.
        assert difference <= 2e-4 * float(grad.norm()) + 1e-8 * largest, name


def test_a_loss_that_is_not_finite_stops_before_anything_changes(model):
    bad = [replace(clips()[0], latents=torch.full((256, 14), 1e38))]
    one = trainer(model, replace(SETTINGS, batch=1), bad)
    before = {name: value.detach().clone() for name, value in one.learner.tensors().items()}
    with one.learner.attached(), pytest.raises(InputError, match="The loss of a is not finite"):
        one.run_step()
    assert one.step == 0
    assert all(torch.equal(before[k], v) for k, v in one.learner.tensors().items())


def test_states_of_other_runs_are_refused(model, tmp_path):
    trainer(model).save_state(tmp_path / "state")
    for other in (replace(SETTINGS, seed=1), replace(SETTINGS, rate=2e-3)):
        with pytest.raises(AdapterError, match=r"another setting of (seed|rate)"):
            trainer(model, other).load_state(tmp_path / "state")
    (tmp_path / "state").write_bytes(b"half of it")
    with pytest.raises(AdapterError, match="Training state"):
        trainer(model).load_state(tmp_path / "state")


def test_what_cannot_work_is_refused_before_the_first_step(model):
    with pytest.raises(InputError, match="no clip"):
        trainer(model, found=[])
    with pytest.raises(InputError, match="not encoded, first 'unknown'"):
        trainer(model, found=[replace(clips()[0], prompt="unknown")])
    with pytest.raises(InputError, match="frames"):
        trainer(model, replace(SETTINGS, frames=5000))
    with pytest.raises(InputError, match="divide the batch of 2"):
        replace(SETTINGS, accumulate=3)


def test_every_clip_is_seen_once_a_round():
    seen = [index for step in range(10) for index in pick(5, 2, 7, step)]
    assert all(sorted(seen[i : i + 5]) == [0, 1, 2, 3, 4] for i in range(0, 20, 5))
    assert len({tuple(seen[i : i + 5]) for i in range(0, 20, 5)}) > 1
    assert pick(1, 3, 7, 0) == [0, 0, 0]


def test_a_cut_reaches_the_last_frame_and_tells_its_own_seconds():
    rows = torch.arange(20.0).expand(256, 20)
    clip = EncodedClip("x", rows, 15, 1.35, "p")
    parts = [cut(clip, 8, None, seed) for seed in range(200)]
    assert {int(part.latents[0, 0]) for part in parts} == set(range(8))
    assert all(part.valid == 8 and part.seconds <= 8 * 4096 / 44100 for part in parts)
    assert cut(clip, 16, None, 0).seconds == 1.35
    filled = cut(clip, 30, torch.full((256, 3), -1.0), 0)
    assert filled.latents[0].tolist() == [*range(20), *[-1.0] * 10]
    assert (filled.valid, filled.seconds) == (15, 1.35)


def test_learning_rates_follow_their_schedule():
    cosine = TrainSettings(steps=100, rate=1.0, schedule="cosine")
    assert [cosine.rate_at(step) for step in (0, 50, 100)] == pytest.approx([1, 0.5, 0])
    inverse = TrainSettings(rate=1.0, schedule="inverse")
    assert inverse.rate_at(0) == pytest.approx(0.005)
    assert inverse.rate_at(3_000_000) == pytest.approx(0.5)


def test_tags_are_shown_in_several_orders():
    orders = tag_orders("house, 120 BPM, warm", 4)
    assert orders[0] == "house, 120 BPM, warm"
    assert len(set(orders)) == 4
    assert all(sorted(o.split(", ")) == ["120 BPM", "house", "warm"] for o in orders)
    assert orders == tag_orders("house, 120 BPM, warm", 4)
    assert len(tag_orders("a, b", 9)) == 2
    assert tag_orders("one tag", 9) == ["one tag"]
    found = [replace(clips()[0], prompt="a, b"), replace(clips()[1], prompt="a")]
    assert prompts_of(found, 2) == ["a, b", "b, a", "a"]


def test_every_order_must_be_encoded_and_is_used(model, monkeypatch):
    text = spoken()["warm pad"]
    other = replace(text, tokens=text.tokens * 2)
    found = [replace(clips()[0], prompt="a, b")]
    settings = TrainSettings(steps=1, frames=4, tag_orders=2)
    adapter = TrainedAdapter(model, AdapterSettings("lora", 1, include=("layers.0.ff",)))
    with pytest.raises(InputError, match="not encoded, first 'b, a'"):
        Trainer(model, adapter, found, {"a, b": text}, settings)
    one = Trainer(model, adapter, found, {"a, b": text, "b, a": other}, settings)
    seen = set()
    for one.step in range(12):
        seen.add(float(one._inputs()[1].text.tokens.abs().max()))
    assert len(seen) == 2
