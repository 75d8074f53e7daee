"""CUDA graphs of the net, on a stand-in that has a graph's two habits: fixed addresses, no CPU.

It notes every operation with the very tensors it read and wrote; a replay does them again into the
same memory, so inputs, weights or constants that lie elsewhere by then go unnoticed, as on a card.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sa3_core.checkpoints.load import load_model
from sa3_core.networks import cuda_graphs
from sa3_core.networks.compiled import compile_dit
from sa3_core.networks.model import SA3Model
from sa3_core.sampling.settings import SampleSettings
from tests.core.networks.test_compiled import Job
from tests.helpers.support import rel_l2, tiny_checkpoint


@pytest.fixture(params=["tiny-s", "tiny-m"])
def model(request) -> SA3Model:
    return load_model(tiny_checkpoint(request.param), dtype=torch.float32)


class Tape(TorchDispatchMode):
    """Notes operations while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.notes.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        """Do it all again, into the memory that was written to at first."""
        with torch.no_grad():
            for func, args, kwargs, out in self.notes:
                written = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
                read = {storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
                if func._schema.is_mutable:
                    func(*args, **kwargs)
                elif not any(storage(t) in read for t in written):  # else a view: still in place
                    again = [t for t in tree_leaves(func(*args, **kwargs)) if isinstance(t, Tensor)]
                    for old, new in zip(written, again, strict=True):
                        old.copy_(new)


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@pytest.fixture
def recordings(monkeypatch) -> list[Tape]:
    """What was recorded."""
    tapes: list[Tape] = []

    def capture(work: Callable[[], Tensor], pool: Any) -> tuple[Callable[[], None], Tensor]:
        tape = Tape()
        tapes.append(tape)
        with tape:
            out = work()
        out.fill_(torch.nan)  # recording does not compute
        return tape.replay, out

    monkeypatch.setattr(cuda_graphs, "capture", capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    return tapes


@pytest.fixture
def graphed(model, recordings) -> SA3Model:
    return replace(
        model, compiled=compile_dit(model.dit, model.max_frames, {"backend": "cudagraphs"})
    )


@pytest.mark.parametrize("sampler", ["pingpong", "rk4"])
def test_pieces_of_a_bucket_replay_one_recording(model, graphed, recordings, sampler):
    settings = SampleSettings(steps=2, sampler=sampler)
    for job in (
        Job((1.5,), (10,), settings=settings),
        Job((4.2,), (3,), settings=settings),
        Job((2.0,), (20,), settings=settings),
    ):
        assert rel_l2(job.run(graphed), job.run(model)) < 1e-5
    assert len(recordings) == 1
    batch = Job((1.5, 4.2), (10, 3), settings=settings)
    assert rel_l2(batch.run(graphed), batch.run(model)) < 1e-5
    again = Job((3.0,), (9,), settings=settings)
    assert rel_l2(again.run(graphed), again.run(model)) < 1e-5
    assert len(recordings) == 2


def test_guidance_and_a_source(model, graphed, recordings):
    for seconds in (1.5, 3.0):
        job = Job((seconds,), negative=5, inpaint=True, settings=SampleSettings(steps=2, cfg=4.0))
        assert rel_l2(job.run(graphed), job.run(model)) < 5e-5
    assert len(recordings) == 1


def test_weights_that_changed_in_place_are_used_and_moved_ones_recorded_anew(
    model, graphed, recordings
):
    job = Job()
    job.run(graphed)
    layer = model.dit.transformer.layers[0].self_attn.to_qkv
    with torch.no_grad():
        layer.weight *= 1.5
    changed = job.run(graphed)
    assert rel_l2(changed, job.run(model)) < 1e-5
    assert len(recordings) == 1
    layer.weight = torch.nn.Parameter(layer.weight / 1.5, requires_grad=False)
    assert rel_l2(job.run(graphed), job.run(model)) < 1e-5
    assert rel_l2(job.run(graphed), changed) > 1e-3
    assert len(recordings) == 2


class Louder:
    """Weights replaced half-way, and back again at the last step."""

    def __init__(self, model: SA3Model) -> None:
        self.layer = model.dit.transformer.layers[0].cross_attn.to_kv
        self.original = self.layer.weight

    def active(self, t: float) -> bool:
        return 0.5 < t < 0.95

    def activate(self, key: Any) -> None:
        louder = torch.nn.Parameter(1.5 * self.original, requires_grad=False)
        self.layer.weight = louder if key else self.original


def test_weights_that_change_between_steps(model, graphed):
    job = Job(settings=SampleSettings(steps=6, sampler="euler"))
    outs = [job.run(m, Louder(model)) for m in (graphed, model)]
    assert rel_l2(outs[0], outs[1]) < 1e-5
    assert rel_l2(outs[1], job.run(model)) > 1e-4


def test_a_recording_serves_outside_of_inference_mode_too(model, graphed, recordings):
    job = Job()
    with torch.inference_mode():
        inside = job.run(graphed)
    assert rel_l2(job.run(graphed), inside) < 1e-6
    assert len(recordings) == 1


def test_streamed_weights_are_not_recorded(model, graphed, recordings, caplog, monkeypatch):
    far = torch.nn.Parameter(torch.empty(1, device="meta"), requires_grad=False)
    near = list(model.dit.parameters())
    monkeypatch.setattr(model.dit, "parameters", lambda: iter([*near, far]))
    job = Job()
    assert rel_l2(job.run(graphed), job.run(model)) < 1e-5
    assert recordings == []
    assert "not all weights are on the card" in caplog.text
