"""An interrupt at any check: every tensor of the stopped work is freed, nothing changes."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

STEPS, MOST = 3, 6  # steps; about how many of the checks are tried
Work = Callable[[], Tensor]


@pytest.fixture(autouse=True)
def _only_new_objects() -> Iterator[None]:
    """Hide what is there already from the collector: looking through all of ComfyUI takes long."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def living_tensors() -> Counter[tuple[int, ...]]:
    """How many tensors of each shape there are, wherever they are held."""
    gc.collect()
    return Counter(tuple(o.shape) for o in gc.get_objects() if isinstance(o, Tensor))


def left_by(work: Callable[[], object], interrupted: type[Exception]) -> Counter[tuple[int, ...]]:
    """Tensors that are there only since `work` was interrupted."""
    before = living_tensors()
    with pytest.raises(interrupted):
        work()
    return living_tensors() - before


@contextmanager
def interrupt_at(mm: Any, runtime: Any, number: int) -> Iterator[list[int]]:
    """Press cancel right before the nodes look for the `number`-th time whether that was done."""
    original, count = runtime.check_interrupted, [0]

    def check() -> None:
        count[0] += 1
        if count[0] == number:
            mm.interrupt_current_processing(True)
        original()

    runtime.check_interrupted = check
    try:
        yield count
    finally:
        runtime.check_interrupted = original
        mm.interrupt_current_processing(False)


def sampling(small: Any, **settings: Any) -> Work:
    latent = small.module("nodes.latent").SA3EmptyLatent.execute(2.0, 1).args[0]
    positive, negative = small.prompt("warm pad"), small.prompt("noise")
    settings = {"steps": STEPS, "positive": positive, "negative": negative, **settings}
    return lambda: small.sample(latent, **settings)["samples"]


def decoding(small: Any) -> Work:
    latent = torch.randn(2, 256, 24, generator=torch.Generator().manual_seed(0))
    return lambda: small.decode({"samples": latent}, chunk=8)["waveform"]


def encoding(small: Any) -> Work:
    wave = torch.randn(2, 2, 3 * 44100, generator=torch.Generator().manual_seed(0))
    return lambda: small.encode({"waveform": wave, "sample_rate": 44100})["samples"]


WORK = {
    "sampling": lambda small: sampling(small),
    "guided": lambda small: sampling(small, cfg=3.0),
    "four calls a step": lambda small: sampling(small, sampler="rk4"),
    "decoding": decoding,
    "encoding": encoding,
}


@pytest.mark.parametrize("size", ["small", "medium"])
@pytest.mark.parametrize("kind", WORK)
def test_an_interrupt_at_any_check_frees_all_tensors(mm, bridge, request, size, kind):
    work = WORK[kind](request.getfixturevalue(size))
    expected = work()
    with interrupt_at(mm, bridge.running, 0) as count:
        assert torch.equal(work(), expected)
    assert count[0] >= STEPS
    for number in range(1, count[0] + 1, max(1, count[0] // MOST)):
        with interrupt_at(mm, bridge.running, number):
            assert not left_by(work, mm.InterruptProcessingException), f"check {number}"
    assert torch.equal(work(), expected)


@pytest.mark.parametrize("part", ["load_dit", "load_conditioner", "load_same"])
def test_an_interrupted_load_frees_what_was_read(mm, bridge, tiny_s, monkeypatch, part):
    module = bridge.vae if part == "load_same" else bridge.model
    load = getattr(module, part)

    def stopped(*args: Any) -> None:
        read = load(*args)  # noqa: F841 - alive while the exception passes
        raise mm.InterruptProcessingException

    monkeypatch.setattr(module, part, stopped)

    def work() -> None:
        if part == "load_same":
            bridge.vae.load_vae(str(tiny_s))
        else:
            bridge.model.load_patcher(str(tiny_s), "tiny-s", "fp32", "auto")

    assert not left_by(work, mm.InterruptProcessingException)


def test_an_interrupt_while_encoding_text_frees_all_tensors(mm, small):
    expected = small.prompt("warm pad")[0][0].clone()
    small.clip.cond_stage_model.recent.clear()  # else the prompt is not encoded again
    net = small.clip.cond_stage_model.encoder
    last = [module for module in net.modules() if isinstance(module, torch.nn.Linear)][-1]

    def stop(*_given: Any) -> None:
        raise mm.InterruptProcessingException

    handle = last.register_forward_hook(stop)
    try:
        assert not left_by(lambda: small.prompt("warm pad"), mm.InterruptProcessingException)
    finally:
        handle.remove()
    assert torch.equal(small.prompt("warm pad")[0][0], expected)
