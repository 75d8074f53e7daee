"""A LoRA from its start to its file, and back through the ordinary loader."""

from __future__ import annotations

import json

import pytest
import torch

from sa3_core.adapters.build import build_adapter, match, require_fit
from sa3_core.adapters.file import read_adapter
from sa3_core.adapters.rules import ADAPTER_TYPES
from sa3_core.checkpoints.load import load_model
from sa3_core.errors import AdapterError, InputError
from sa3_core.networks.model import SA3Model
from sa3_core.sampling.schedule import FullShift
from sa3_core.text.conditioning import TextConditioning
from sa3_core.training.adapter import (
    AdapterSettings,
    TrainedAdapter,
    trainable_layers,
    write_adapter,
)
from sa3_core.training.draws import DrawSettings, draw_item, item_seed
from sa3_core.training.inpaint import InpaintOdds
from sa3_core.training.step import StepInputs, assemble, predict, score
from tests.helpers.support import load_golden, tiny_checkpoint

PLAIN = DrawSettings(inpaint=InpaintOdds(0, 0), text_dropout=0)


@pytest.fixture(scope="module")
def model() -> SA3Model:
    return load_model(tiny_checkpoint("tiny-s"))


def step_of(seed: int) -> StepInputs:
    clip = load_golden("training/pre_encode_tiny-s")["pad.a"][:, :14]
    tokens = load_golden("t5gemma")["tokens.0"][None]
    text = TextConditioning(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))
    draw = draw_item(PLAIN, item_seed(seed, 0), 14, 14)
    return assemble(clip[None], [1.3], text, [draw], FullShift())


def validation(model: SA3Model) -> float:
    """Mean loss at five noise levels with fixed noise."""
    total = 0.0
    with torch.no_grad():
        for level in (0.1, 0.3, 0.5, 0.7, 0.9):
            batch = step_of(99)
            batch.t.fill_(level)
            total += score(predict(model, batch), batch).total.item() / 5
    return total


def moved(model: SA3Model, settings: AdapterSettings) -> TrainedAdapter:
    adapter = TrainedAdapter(model, settings)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return adapter


@pytest.mark.parametrize("kind", ADAPTER_TYPES)
def test_a_saved_lora_does_what_it_did_in_training(model, tmp_path, kind):
    adapter = moved(model, AdapterSettings(kind, 4, 6.0))
    with adapter.attached(), torch.no_grad():
        adapter.begin_step()
        trained = validation(model)
    path = tmp_path / "lora.safetensors"
    write_adapter(path, adapter, {"step": 7, "base_model": "tiny-s"})
    file = read_adapter(path)
    layers = trainable_layers(model)
    shapes = {key: tuple(m.get_parameter("weight").shape) for key, m in layers.items()}
    keys = require_fit(match(file, shapes))
    assert set(keys) == set(layers)
    weights = {key: m.get_parameter("weight") for key, m in layers.items()}
    originals = {key: weight.data.clone() for key, weight in weights.items()}
    try:
        for key, item in build_adapter(file, weights).items():
            weights[key].data.copy_(item.apply(weights[key].data, 1.0))
        loaded = validation(model)
    finally:
        for key, weight in weights.items():
            weight.data.copy_(originals[key])
    assert loaded == pytest.approx(trained, rel=1e-3)
    config = json.loads(file.metadata["lora_config"])
    assert (config["step"], config["rank"], config["alpha"]) == (7, 4, 6.0)
    assert (config["include"], config["exclude"]) == (None, None)
    again = TrainedAdapter(model, AdapterSettings(kind, 4, 6.0))
    again.load(file)
    for name, value in adapter.tensors().items():
        assert torch.equal(again.tensors()[name], value.half().float())


def test_twenty_steps_learn_a_clip(model):
    adapter = TrainedAdapter(model, AdapterSettings("dora-rows", 4), seed=1)
    optimizer = torch.optim.AdamW(adapter.parameters(), 2e-3, (0.9, 0.95), 1e-8, 0.01)
    with adapter.attached():
        adapter.begin_step()
        start = validation(model)
        for step in range(20):
            batch = step_of(step)
            adapter.begin_step()
            optimizer.zero_grad()
            score(predict(model, batch), batch).total.backward()
            optimizer.step()
        adapter.begin_step()
        assert validation(model) < 0.6 * start
    assert validation(model) == pytest.approx(start, rel=1e-5)
    assert max(adapter.changes().values()) > 1e-3


def test_the_same_seed_starts_alike_and_layers_differ(model):
    first, second = (TrainedAdapter(model, AdapterSettings("lora", 2), seed=5) for _ in range(2))
    for name, value in first.tensors().items():
        assert torch.equal(value, second.tensors()[name])
    a, b = (first.tensors()[k] for k in list(first.tensors())[:4] if k.endswith("lora_A"))
    assert a.shape != b.shape or not torch.equal(a, b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (AdapterSettings("lora", 4), "its type is dora-rows"),
        (AdapterSettings("dora-rows", 2), "its rank is 4, not 2"),
        (AdapterSettings("dora-rows", 4, 8.0), "alpha/rank is 1, not 2"),
        (AdapterSettings("dora-rows", 4, include=("self_attn",)), "and has"),
    ],
)
def test_a_lora_of_another_kind_is_not_trained_on(model, tmp_path, settings, message):
    path = tmp_path / "lora.safetensors"
    write_adapter(path, TrainedAdapter(model, AdapterSettings("dora-rows", 4)), {})
    with pytest.raises(AdapterError, match=message):
        TrainedAdapter(model, settings).load(read_adapter(path))


def test_a_filter_that_leaves_nothing_is_refused(model):
    with pytest.raises(InputError, match="leave no layer"):
        TrainedAdapter(model, AdapterSettings(include=("nowhere",)))


def test_a_filter_takes_the_layers_it_names(model):
    settings = AdapterSettings("lora", 2, include=("layers[0-1]",), exclude=("cross_attn",))
    keys = list(TrainedAdapter(model, settings).branches)
    assert len(keys) == 12
    assert all("layers.0." in key or "layers.1." in key for key in keys)
    assert not any("cross_attn" in key for key in keys)


def test_a_rank_beyond_a_layer_is_refused(model):
    with pytest.raises(InputError, match="only 128 channels"):
        TrainedAdapter(model, AdapterSettings(rank=129))


def test_values_that_are_not_finite_are_not_saved(model, tmp_path):
    adapter = TrainedAdapter(model, AdapterSettings("lora", 2))
    with torch.no_grad():
        next(adapter.parameters()).fill_(1e6)
    with pytest.raises(AdapterError, match="not finite"):
        write_adapter(tmp_path / "lora.safetensors", adapter, {})
    assert not list(tmp_path.iterdir())
