"""8-bit storage without a host: what is stored, what is computed, LoRAs on it, and refusals.

Weights are widened here on every processor; for products in integers see test_integer.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sa3_core.adapters.rules import AdapterWeight, LowRank
from sa3_core.adapters.switch import AdapterSwitch
from sa3_core.adapters.use import AdapterUse
from sa3_core.checkpoints.load import load_autoencoder, load_model
from sa3_core.errors import InputError
from sa3_core.networks import integer
from sa3_core.networks.compiled import compile_dit
from sa3_core.networks.placement import dit_memory
from sa3_core.networks.quantised import (
    STORAGES,
    QuantisedLinear,
    check_storage,
    quantise,
    storages_of,
    widen,
)
from sa3_core.sampling.noise import Seeds
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from tests.helpers.support import tiny_checkpoint

LEAST_DB = {"int8": 33.0, "fp8_e4m3": 22.0}
KEY = "model.model.transformer.layers.{}.ff.ff.0.proj.weight"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _widened(monkeypatch) -> None:
    monkeypatch.setattr(integer, "IN_INTEGERS", False)


@pytest.fixture(params=STORAGES)
def storage(request) -> str:
    return request.param


@pytest.fixture
def narrow(storage):
    return load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32, storage=storage)


@pytest.fixture(scope="module")
def plain():
    return load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sampled(model, uses=(), steps=2) -> torch.Tensor:
    text = TextConditioning(draw(1, 5, 768), torch.ones(1, 5, dtype=torch.bool))
    start = StartLatent(torch.zeros(1, 256, 82), (1.5,))
    with AdapterSwitch(model, uses) as switch:
        settings = SampleSettings(steps=steps)
        put = switch if uses else None
        return sample_latent(model, start, settings, text, None, Seeds(1), switch=put)


def snr_db(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(20 * torch.log10(wanted.norm() / (found - wanted).norm()))


def lora(model, strength: float = 1.0, **settings) -> AdapterUse:
    weights = {}
    for index in range(2):
        key = KEY.format(index)
        out, width = model.dit.get_parameter(key.removeprefix("model.model.")).shape
        factor = LowRank(draw(4, width, seed=index) * 0.05, draw(out, 4, seed=9) * 0.05)
        weights[key] = AdapterWeight(factor, "dora-rows", (torch.ones(out),), 1.0)
    return AdapterUse(weights, strength, **settings)


def test_the_blocks_matrices_are_narrow_and_nothing_else(narrow, plain, storage):
    kinds = {key: value.dtype for key, value in narrow.dit.state_dict().items()}
    inside = {key for key, kind in kinds.items() if kind == STORAGES[storage]}
    blocks = {
        key
        for key, value in plain.dit.named_parameters()
        if ".layers." in key and value.ndim == 2 and ".to_local_embed." not in key
    }
    assert inside == blocks
    assert {kind for key, kind in kinds.items() if key not in inside} == {torch.float32}
    assert (narrow.storage, narrow.dtype, plain.storage) == (storage, torch.float32, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_is_to_the_nearest_and_widening_rounds_once(storage, dtype):
    weight = draw(600, 16) * torch.logspace(-3, 1, 600)[:, None]
    values, scale = quantise(weight, storage)
    exact = values.double() * scale.double()
    half_step = scale / 2 if storage == "int8" else weight.abs() / 16 + scale / 1024
    assert bool(((exact - weight.double()).abs() <= half_step.double() * 1.0001).all())
    wide = widen(values, scale, dtype)
    assert wide.dtype == dtype
    assert float((wide.double() - exact).norm() / exact.norm()) < 0.5 * torch.finfo(dtype).eps


def test_zeros_stay_zeros(storage):
    values, scale = quantise(torch.zeros(8, 16), storage)
    assert torch.equal(widen(values, scale, torch.float32), torch.zeros(8, 16))


def test_latents_are_near_the_unquantised_ones(narrow, plain, storage):
    assert LEAST_DB[storage] < snr_db(sampled(narrow, steps=4), sampled(plain, steps=4)) < 60


def test_half_precision_computes_in_it(storage):
    half = load_model(tiny_checkpoint("tiny-s"), dtype=torch.bfloat16, storage=storage)
    assert half.dtype == torch.bfloat16
    exact = load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32, storage=storage)
    assert 25 < snr_db(sampled(half), sampled(exact)) < 90


def test_a_lora_acts_on_the_widened_weight_and_leaves_no_trace(narrow, plain, storage):
    before, wide = sampled(narrow), dict(plain.dit.state_dict())
    use = lora(narrow)
    out = sampled(narrow, [use])
    assert LEAST_DB[storage] - 3 < snr_db(out, sampled(plain, [use]))
    with AdapterSwitch(narrow, [use]) as switch:
        switch.activate((0,))
        changed = [m for m in narrow.dit.modules() if getattr(m, "change", None) is not None]
        assert len(changed) == 2
        for module in changed:  # nothing wide stays in memory
            assert module.weight.dtype == STORAGES[storage]
    layer = narrow.dit.get_submodule("transformer.layers.0.ff.ff.0.proj")
    assert isinstance(layer, QuantisedLinear)
    assert layer.change is None
    assert snr_db(layer.widened(torch.float32), wide[KEY.format(0)[12:]]) > LEAST_DB[storage]
    assert torch.equal(sampled(narrow), before)


def test_a_lora_with_an_interval_acts_inside_it_alone(narrow):
    out, always = sampled(narrow), sampled(narrow, [lora(narrow)])
    part = sampled(narrow, [lora(narrow, interval=(0.9, 1.0))])
    assert not torch.equal(part, out)
    assert not torch.equal(part, always)
    assert torch.equal(sampled(narrow, [lora(narrow, interval=(0.0, 1.0))]), always)


def test_behind_a_compiler_adapted_layers_are_wide_and_give_the_same(narrow, storage):
    expected, before = sampled(narrow, [lora(narrow)]), sampled(narrow)
    net = compile_dit(narrow.dit, narrow.max_frames, {"backend": "eager"})
    compiled = replace(narrow, compiled=net)
    torch._dynamo.reset()
    with AdapterSwitch(compiled, [lora(narrow)]) as switch:
        switch.activate((0,))
        layer = narrow.dit.get_submodule("transformer.layers.0.ff.ff.0.proj")
        assert layer.weight.dtype == torch.float32
    assert layer.weight.dtype == STORAGES[storage]
    assert snr_db(sampled(compiled, [lora(narrow)]), expected) > 90
    assert snr_db(sampled(compiled), before) > 90


def test_the_estimate_holds_a_widened_matrix(narrow, plain):
    config, size = narrow.dit.config, 4
    both = [dit_memory(config, 1, 82, torch.float32, CPU, 0, wide) for wide in (False, True)]
    largest = max(value.numel() for value in plain.dit.transformer.layers.parameters())
    assert (both[1] - both[0]) / (size * largest) == pytest.approx(1.6, abs=0.01)  # with gaps


def test_devices_without_float8():
    assert storages_of(torch.device("mps")) == ["int8"]
    assert storages_of(CPU) == list(STORAGES)
    with pytest.raises(InputError, match=r"storage is 'fp8_e4m3', which mps .* int8 works"):
        check_storage("fp8_e4m3", torch.device("mps"))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.float64])
def test_a_dtype_that_nothing_is_computed_in_is_refused(dtype):
    folder = tiny_checkpoint("tiny-s")
    for load in (load_autoencoder, load_model):
        with pytest.raises(InputError, match=r"known: float32, bfloat16, float16.*storage='int8'"):
            load(folder, dtype=dtype)
    with pytest.raises(InputError, match="storage is 'int4'; it must be one of fp8_e4m3, int8"):
        load_model(folder, storage="int4")


def test_types_that_need_the_singular_vectors_are_not_trained_on_rounded_weights(narrow):
    with pytest.raises(InputError, match=r"storage is .* singular vectors"):
        TrainedAdapter(narrow, AdapterSettings("lora-xs", 2))


def test_strengths_of_a_lora_in_place_can_be_changed(narrow):
    with AdapterSwitch(narrow, [lora(narrow)]) as switch:
        switch.activate((0,))
        layer = narrow.dit.get_submodule("transformer.layers.0.ff.ff.0.proj")
        wide = layer.widened(torch.float32)
        full = layer.change(wide)
        switch.set_strength(0.25)
        use = lora(narrow).lora[KEY.format(0)]
        assert torch.equal(layer.change(wide), use.apply(wide, 0.25))
        assert not torch.equal(layer.change(wide), full)
        switch.set_strength(0.0)
        assert layer.change is None
