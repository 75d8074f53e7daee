"""The plan of a run: what is decided before anything is computed, and the memory it asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sa3_core.checkpoints.load import load_model
from sa3_core.errors import InputError
from sa3_core.networks.compiled import compile_dit, frame_bucket
from sa3_core.networks.model import SA3Model
from sa3_core.networks.placement import dit_memory
from sa3_core.sampling.noise import Seeds
from sa3_core.sampling.plan import SamplingPlan
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning
from tests.helpers.support import tiny_checkpoint

T = 100


@pytest.fixture(scope="module")
def model() -> SA3Model:
    return load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32)


def prompts(count: int = 1) -> TextConditioning:
    return TextConditioning(torch.zeros(count, 3, 768), torch.ones(count, 3, dtype=torch.bool))


def plan(model, seconds=None, keep=None, items=1, positive=1, frames=T) -> SamplingPlan:
    start = StartLatent(torch.zeros(items, 256, frames), seconds, keep)
    return SamplingPlan.of(model, start, prompts(positive), None, Seeds(1))


def expected(model, rows, frames, local_rows=0) -> float:
    return dit_memory(model.dit.config, rows, frames, model.dtype, model.device, local_rows)


def test_items_and_lengths_are_those_of_the_longest_list(model):
    run = plan(model, (2.0, 1.0), positive=2)
    assert (run.batch, run.total, run.active) == (2, T, 22 + 64)
    assert run.valid == (86, 11 + 64)
    assert run.batch_index == (0, 1)
    assert run.noise()().shape == (2, 256, T)


@pytest.mark.parametrize(("given", "local_rows"), [(None, 0), (0.0, 0), (1.0, 1)])
def test_memory_counts_the_frames_and_rows_that_are_computed(model, given, local_rows):
    keep = None if given is None else torch.full((1, 1, T), given)
    assert plan(model, (2.0,), keep).memory(False) == expected(model, 1, 86, local_rows)
    # One item's source broadcasts over both halves of a guided run; a batch's does not.
    assert plan(model, (2.0,), keep).memory(True) == expected(model, 2, 86, local_rows)
    batch = plan(model, (2.0,), keep, positive=3)
    assert batch.memory(False) == expected(model, 3, 86, 3 * local_rows)
    assert batch.memory(True) == expected(model, 6, 86, 6 * local_rows)


def test_memory_counts_the_padding_of_a_compiled_net(model):
    compiled = replace(model, compiled=compile_dit(model.dit, model.max_frames, {}))
    padded = frame_bucket(86, model.max_frames)
    assert padded > 86
    assert plan(compiled, (2.0,)).memory(False) == expected(model, 1, padded)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("items", [1, 2])
def test_the_predictor_computes_the_rows_that_the_plan_counted(model, monkeypatch, items, cfg):

    seen = []
    prepare = type(model.dit).prepare

    def spy(self, **given):
        local = given["local_cond"]
        seen.append((given["context"].shape[0], given["frames"], local.shape[0]))
        return prepare(self, **given)

    monkeypatch.setattr(type(model.dit), "prepare", spy)
    keep = torch.ones(1, 1, T)
    start = StartLatent(torch.zeros(items, 256, T), (2.0,), keep)
    run = SamplingPlan.of(model, start, prompts(), None, Seeds(1))
    sample_latent(model, start, SampleSettings(steps=1, cfg=cfg), prompts(), None, Seeds(1))
    [(rows, frames, local_rows)] = seen
    assert run.memory(cfg != 1) == expected(model, rows, frames, local_rows)


def test_a_duration_that_the_latent_cannot_hold_is_refused(model):
    with pytest.raises(InputError, match="its duration is 20 s"):
        plan(model, (20.0,))
    with pytest.raises(InputError, match=r"seconds is 0\.0"):
        plan(model, (0.0,))
