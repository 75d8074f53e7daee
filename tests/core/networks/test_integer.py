"""int8 weights times activations in int8: exact sums, and latents near those in float32."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sa3_core.checkpoints.load import load_model
from sa3_core.networks import integer
from sa3_core.networks.compiled import compile_dit
from sa3_core.networks.integer import cpu_multiplies_integers, integer_linear, integers_pay
from sa3_core.networks.quantised import QuantisedLinear, quantise
from tests.core.networks.test_quantised import draw, lora, sampled, snr_db
from tests.helpers.support import tiny_checkpoint

LEAST_DB = 30.0  # of latents against float32, on random weights


@pytest.fixture(autouse=True)
def _in_integers(monkeypatch) -> None:
    """Every processor can, if not fast."""
    monkeypatch.setattr(integer, "IN_INTEGERS", True)
    monkeypatch.setattr(integer, "BFLOAT16_IS_FASTER", False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [None, draw(96)])
def test_a_product_of_whole_numbers_is_exact(dtype: torch.dtype, bias) -> None:
    values = torch.randint(-127, 128, (2, 300, 64), generator=torch.Generator().manual_seed(0))
    values[..., 0] = 127  # so that the step of every token is one
    weight, scale = quantise(draw(96, 64), "int8")
    out = integer_linear(values.to(dtype), weight, scale, None if bias is None else bias.to(dtype))
    exact = values.double() @ (weight.double() * scale.double()).T
    if bias is not None:
        exact += bias.to(dtype).double()
    assert out.dtype == dtype
    assert out.shape == (2, 300, 96)
    error = float((out.double() - exact).norm() / exact.norm())
    assert error < torch.finfo(dtype).eps


def test_tokens_do_not_influence_each_other() -> None:
    weight, scale = quantise(draw(32, 64), "int8")
    x = draw(600, 64) * torch.logspace(-6, 6, 600)[:, None]
    x[7] = 0
    out = integer_linear(x, weight, scale, None)
    alone = torch.cat([integer_linear(row[None], weight, scale, None) for row in x])
    assert torch.equal(out, alone)
    assert snr_db(out, x @ (weight * scale).T) > 38
    assert not out[7].any()


def test_latents_are_near_those_of_the_unquantised_model() -> None:
    plain = sampled(load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32), steps=4)
    for dtype in (torch.float32, torch.bfloat16):
        model = load_model(tiny_checkpoint("tiny-s"), dtype=dtype, storage="int8")
        assert LEAST_DB < snr_db(sampled(model, steps=4), plain) < 60


def test_what_is_computed_in_integers_and_what_is_not(monkeypatch) -> None:
    model = load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32, storage="int8")
    layers = {n: m for n, m in model.dit.named_modules() if isinstance(m, QuantisedLinear)}
    assert not any("embed" in name or "project" in name for name in layers)
    seen: list[bool] = []
    product = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (seen.append(True), product(a, b))[1])
    layer, x = layers["transformer.layers.0.ff.ff.0.proj"], draw(40, 256)
    x = x[:, : layer.weight.shape[1]]
    layer(x)
    assert len(seen) == 1
    layer(x[:3])  # few rows
    layer.change = lambda weight: weight * 2  # a LoRA
    layer(x)
    layer.change = None
    learning = x.clone().requires_grad_()
    layer(learning).sum().backward()
    assert learning.grad is not None
    monkeypatch.setattr(integer, "IN_INTEGERS", False)
    layer(x)
    assert len(seen) == 1
    assert not integers_pay(x, layer.weight)


def test_a_lora_acts_on_its_layers_alone() -> None:
    model = load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32, storage="int8")
    before, use = sampled(model), lora(model)
    changed = sampled(model, [use])
    assert not torch.equal(changed, before)
    plain = load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32)
    assert snr_db(changed, sampled(plain, [use])) > LEAST_DB - 3
    assert torch.equal(sampled(model), before)


def test_a_compiler_traces_it(monkeypatch) -> None:
    """Another order of sums rounds some activations the other way: as near, not the same."""
    model = load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32, storage="int8")
    net = compile_dit(model.dit, model.max_frames, {"backend": "eager"})
    torch._dynamo.reset()
    plain = sampled(load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32))
    assert snr_db(sampled(replace(model, compiled=net)), plain) > LEAST_DB
    with monkeypatch.context() as patch:
        patch.setattr(integer, "IN_INTEGERS", False)
        assert snr_db(sampled(model), plain) > LEAST_DB


def test_only_instructions_for_it_turn_it_on(monkeypatch) -> None:
    for flags, can in (({"avx512_vnni": True}, True), ({"avx512_vnni": False}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda f=flags: f, raising=False)
        assert cpu_multiplies_integers() is can
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True, raising=False)
    assert cpu_multiplies_integers() is True


@pytest.mark.parametrize("amx", [False, True])
def test_with_amx_bfloat16_is_left_to_widened_weights(monkeypatch, amx: bool) -> None:
    monkeypatch.setattr(integer, "BFLOAT16_IS_FASTER", amx)
    weight = torch.zeros(8, 16, dtype=torch.int8)
    assert integers_pay(torch.zeros(40, 16), weight)
    assert integers_pay(torch.zeros(40, 16, dtype=torch.bfloat16), weight) is not amx
