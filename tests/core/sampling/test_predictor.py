"""The guided velocity of a batch: what is computed how often, and for which items."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from sa3_core.checkpoints.load import load_model
from sa3_core.geometry import padding_mask
from sa3_core.networks.conditioning import null_context
from sa3_core.networks.model import SA3Model
from sa3_core.sampling.guidance import Guidance
from sa3_core.sampling.predictor import Predictor
from sa3_core.text.conditioning import TextConditioning
from tests.helpers.support import rel_l2, tiny_checkpoint

FRAMES = 24
SECONDS = (1.5, 0.9, 2.0)
VALID = (24, 15, 20)
OFF = Guidance(1.0)


@pytest.fixture(scope="module", params=["tiny-s", "tiny-m"])
def model(request) -> SA3Model:
    return load_model(tiny_checkpoint(request.param))


@dataclass
class Spy:
    """Counts what the net is asked for."""

    rows: list[int] = field(default_factory=list)
    prepared: list[int] = field(default_factory=list)

    @contextmanager
    def on(self, model: SA3Model) -> Iterator[None]:
        net = model.dit
        velocity, prepare = net.velocity, net.prepare

        def seen_velocity(x, t, constants):
            self.rows.append(len(x))
            return velocity(x, t, constants)

        def seen_prepare(context, *args, **kwargs):
            self.prepared.append(len(context))
            return prepare(context, *args, **kwargs)

        net.velocity, net.prepare = seen_velocity, seen_prepare
        try:
            yield
        finally:
            del net.velocity, net.prepare


class KeySwitch:
    """Two sets of weights: above t = 0.5 the cross-attention's values are turned up."""

    def __init__(self, model: SA3Model) -> None:
        self.layers = [block.cross_attn.to_kv for block in model.dit.transformer.layers]
        self.originals = [layer.weight for layer in self.layers]
        self.calls: list[Hashable] = []

    def active(self, t: float) -> Hashable:
        return "loud" if t > 0.5 else None

    def activate(self, key: Hashable) -> None:
        self.calls.append(key)
        for layer, original in zip(self.layers, self.originals, strict=True):
            weight = original * 1.5 if key == "loud" else original
            layer.weight = torch.nn.Parameter(weight, requires_grad=False)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def predictor(
    model: SA3Model,
    items: tuple[int, ...] = (0, 1, 2),
    guidance: Guidance = OFF,
    switch: KeySwitch | None = None,
    local: bool = False,
) -> Predictor:
    """Items 0-2 have other prompts, durations, lengths and masked sources."""
    mask = torch.arange(9) < torch.tensor([[9], [4], [6]])
    text = TextConditioning(draw(3, 9, 768) * mask[..., None], mask).select(items)
    duration = model.conditioner.duration([SECONDS[i] for i in items])
    rows = list(items)
    return Predictor(
        model=model,
        contexts=(
            model.conditioner.context(text, duration),
            null_context(len(items)) if guidance.active else None,
        ),
        duration=duration,
        local=draw(3, 257, FRAMES, seed=3)[rows] if local else None,
        mask=padding_mask(VALID, FRAMES)[rows],
        guidance=guidance,
        switch=switch,
    )


def test_a_mask_without_a_masked_frame_is_no_mask(model):
    one = predictor(model, (0,))
    one.velocity(draw(1, 256, FRAMES), torch.tensor([0.5]))
    assert [c.frame_keys for c in one._constants.values()] == [None]


def assert_items_equal_single_runs(model: SA3Model, t: Tensor, limit: float = 5e-6, **how) -> None:
    x = draw(3, 256, FRAMES, seed=1)
    together = predictor(model, **how).velocity(x, t)
    for item in range(3):
        one = slice(item, item + 1)
        alone = predictor(model, (item,), **how).velocity(x[one], t[one])
        valid = VALID[item]
        assert rel_l2(together[one, :, :valid], alone[..., :valid]) <= limit


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize(
    "guidance",
    [OFF, Guidance(5.0), Guidance(3.0, 0.5, (0.0, 1.0), 10.0, 0.7), Guidance(4.0, 0.0)],
)
@torch.no_grad()
def test_an_item_of_a_batch_equals_the_item_alone(model, guidance, local):
    t = torch.tensor([0.9, 0.55, 0.3])
    assert_items_equal_single_runs(model, t, guidance=guidance, local=local, limit=2e-5)


@torch.no_grad()
def test_without_guidance_the_net_runs_once_per_item(model):
    spy, unguided = Spy(), predictor(model)
    with spy.on(model):
        for level in (0.9, 0.5):
            unguided.velocity(draw(3, 256, FRAMES), torch.full((3,), level))
    assert (spy.rows, spy.prepared) == ([3, 3], [3])


@torch.no_grad()
def test_guidance_runs_both_contexts_only_inside_its_interval(model):
    spy, guided = Spy(), predictor(model, guidance=Guidance(4.0, interval=(0.4, 0.8)))
    x = draw(3, 256, FRAMES)
    with spy.on(model):
        for level in (0.9, 0.8, 0.5, 0.39):
            guided.velocity(x, torch.full((3,), level))
    assert spy.rows == [3, 6, 6, 3]
    assert spy.prepared == [3, 6], "each set of constants is computed once"
    outside = torch.full((3,), 0.9)
    assert torch.equal(guided.velocity(x, outside), predictor(model).velocity(x, outside))


@torch.no_grad()
def test_an_interval_counts_for_each_item_on_its_own(model):
    guidance = Guidance(4.0, interval=(0.4, 0.8))
    x, t = draw(3, 256, FRAMES), torch.tensor([0.9, 0.5, 0.2])
    guided = predictor(model, guidance=guidance).velocity(x, t)
    plain = predictor(model).velocity(x, t)
    assert rel_l2(guided[0], plain[0]) <= 5e-6
    assert rel_l2(guided[2], plain[2]) <= 5e-6
    assert rel_l2(guided[1], plain[1]) > 0.05
    assert_items_equal_single_runs(model, t, guidance=guidance, limit=2e-5)


@torch.no_grad()
def test_items_on_different_sides_of_a_switch_equal_single_runs(model):
    switch = KeySwitch(model)
    x, t = draw(3, 256, FRAMES, seed=1), torch.tensor([0.9, 0.3, 0.6])
    together = predictor(model, switch=switch).velocity(x, t)
    for item in range(3):
        one = slice(item, item + 1)
        switch.activate(switch.active(float(t[item])))
        alone = predictor(model, (item,)).velocity(x[one], t[one])
        switch.activate(None if item != 1 else "loud")
        other = predictor(model, (item,)).velocity(x[one], t[one])
        valid = VALID[item]
        assert rel_l2(together[one, :, :valid], alone[..., :valid]) <= 5e-6
        assert rel_l2(together[one, :, :valid], other[..., :valid]) > 1e-3
    switch.activate(None)


@torch.no_grad()
def test_a_switch_is_asked_to_act_only_when_the_set_changes(model):
    switch, spy = KeySwitch(model), Spy()
    switched, x = predictor(model, switch=switch), draw(3, 256, FRAMES)
    results = []
    with spy.on(model):
        for level in (0.9, 0.7, 0.4, 0.2, 0.9):
            results.append(switched.velocity(x, torch.full((3,), level)))
    assert switch.calls == ["loud", None, "loud"]
    assert spy.prepared == [3, 3], "constants of a set are computed once, under its weights"
    assert torch.equal(results[0], results[4])
    switch.activate(None)
    assert torch.equal(results[2], predictor(model).velocity(x, torch.full((3,), 0.4)))


@torch.no_grad()
def test_the_first_set_is_put_in_place_even_when_its_key_is_none(model):
    switch = KeySwitch(model)
    switch.activate("loud")  # what an earlier run left behind
    x, t = draw(3, 256, FRAMES), torch.full((3,), 0.3)
    out = predictor(model, switch=switch).velocity(x, t)
    assert switch.calls == ["loud", None]
    assert torch.equal(out, predictor(model).velocity(x, t))


@torch.no_grad()
def test_a_full_mask_and_no_mask_agree(model):
    x, t = draw(1, 256, FRAMES), torch.tensor([0.7])
    masked = predictor(model, (0,))
    assert VALID[0] == FRAMES
    masked.mask = None
    assert torch.equal(masked.velocity(x, t), predictor(model, (0,)).velocity(x, t))


@torch.no_grad()
def test_half_precision_gives_float32_velocities(model):
    half = load_model(tiny_checkpoint(model.name), dtype=torch.bfloat16)
    x, t = draw(3, 256, FRAMES), torch.tensor([0.9, 0.5, 0.2])
    for guidance, limit in ((OFF, 0.03), (Guidance(3.0), 0.1)):
        out = predictor(half, guidance=guidance).velocity(x, t)
        assert out.dtype == torch.float32
        assert rel_l2(out, predictor(model, guidance=guidance).velocity(x, t)) <= limit
