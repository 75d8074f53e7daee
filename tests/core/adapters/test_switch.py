"""Adapters in a loaded model: when they act, on what, and that nothing of them stays."""

from __future__ import annotations

import pytest
import torch

from sa3_core.adapters.layer_filter import LayerFilter
from sa3_core.adapters.rules import AdapterWeight, LowRank
from sa3_core.adapters.switch import AdapterSwitch
from sa3_core.adapters.use import AdapterUse
from sa3_core.checkpoints.load import load_model
from sa3_core.errors import AdapterError, InputError, NotFiniteError
from sa3_core.geometry import target_frames
from sa3_core.sampling.noise import Seeds
from sa3_core.sampling.sample import sample_latent, schedule_for
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning
from tests.helpers.support import rel_l2

QKV = "model.model.transformer.layers.{}.self_attn.to_qkv.weight"
CONV = "model.model.preprocess_conv.weight"
DURATION = "conditioner.conditioners.seconds_total.embedder.embedding.1.weight"


@pytest.fixture(scope="module")
def model(tiny_s):
    return load_model(tiny_s)


def weight_of(model, key: str) -> torch.Tensor:
    if key.startswith("conditioner."):
        return model.conditioner.get_parameter(key.removeprefix("conditioner."))
    return model.dit.get_parameter(key.removeprefix("model.model."))


def adapter(model, *keys: str, seed: int = 0) -> dict[str, AdapterWeight]:
    """A random LoRA of rank 4 for the given layers, strong enough to be heard."""
    generator = torch.Generator().manual_seed(seed)
    built = {}
    for key in keys:
        shape = weight_of(model, key).flatten(1).shape
        a = torch.randn(4, shape[1], generator=generator) * 0.05
        b = torch.randn(shape[0], 4, generator=generator) * 0.05
        built[key] = AdapterWeight(LowRank(a, b), "lora", (), 1.0)
    return built


def everything(model) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
    """All parameters with copies of their values."""
    nets = (model.dit, model.conditioner)
    return [(p, p.detach().clone()) for net in nets for p in net.parameters()]


def test_adapters_are_chained_and_the_originals_come_back(model):
    keys = [QKV.format(0), CONV, DURATION]
    first, second = adapter(model, *keys), adapter(model, QKV.format(0), seed=1)
    before = everything(model)
    expected = {
        QKV.format(0): second[QKV.format(0)].apply(
            first[QKV.format(0)].apply(weight_of(model, QKV.format(0)), 0.5), -2.0
        ),
        CONV: first[CONV].apply(weight_of(model, CONV), 0.5),
        DURATION: first[DURATION].apply(weight_of(model, DURATION), 0.5),
    }
    with AdapterSwitch(model, [AdapterUse(first, 0.5), AdapterUse(second, -2.0)]) as switch:
        switch.activate(switch.active(1.0))
        for key, value in expected.items():
            assert torch.equal(weight_of(model, key), value)
    after = everything(model)
    for (old, value), (new, _) in zip(before, after, strict=True):
        assert old is new
        assert torch.equal(new, value)


def test_an_error_inside_restores_too(model):
    key = QKV.format(1)
    original = weight_of(model, key)
    with pytest.raises(KeyboardInterrupt), AdapterSwitch(model, [AdapterUse(adapter(model, key))]):
        raise KeyboardInterrupt
    assert weight_of(model, key) is original


def test_a_result_that_is_not_finite_names_the_loras(model):
    key = QKV.format(1)
    uses = [AdapterUse(adapter(model, key), 2.5, name="loud.safetensors")]
    said = r"^NaN from step 1\. On the model: loud\.safetensors at 2\.5\.$"
    with pytest.raises(NotFiniteError, match=said), AdapterSwitch(model, uses):
        raise NotFiniteError("NaN from step 1.")
    with pytest.raises(NotFiniteError, match=r"^NaN from step 1\.$"), AdapterSwitch(model, []):
        raise NotFiniteError("NaN from step 1.")


def test_the_interval_includes_its_ends_as_float32(model):
    weights = adapter(model, QKV.format(0))
    switch = AdapterSwitch(model, [AdapterUse(weights, 1.0, (0.3, 0.7)), AdapterUse(weights)])
    single = torch.tensor([0.7, 0.3, 0.70001, 0.29999], dtype=torch.float32).tolist()
    assert [switch.active(t) for t in single] == [(0, 1), (0, 1), (1,), (1,)]


def test_the_interval_leaves_the_conditioner_on(model):
    use = AdapterUse(adapter(model, QKV.format(0), DURATION), 1.0, (0.0, 0.1))
    originals = {key: weight_of(model, key) for key in (QKV.format(0), DURATION)}
    with AdapterSwitch(model, [use]) as switch:
        switch.activate(switch.active(1.0))
        assert weight_of(model, QKV.format(0)) is originals[QKV.format(0)]
        assert not torch.equal(weight_of(model, DURATION), originals[DURATION])
        switch.activate(switch.active(0.05))
        assert not torch.equal(weight_of(model, QKV.format(0)), originals[QKV.format(0)])


def test_strength_0_and_filtered_layers_keep_their_weights(model):
    keys = [QKV.format(0), QKV.format(1), DURATION]
    originals = {key: weight_of(model, key) for key in keys}
    weights = adapter(model, *keys)
    with AdapterSwitch(model, [AdapterUse(weights, 0.0)]) as switch:
        switch.activate(switch.active(1.0))
        assert all(weight_of(model, key) is originals[key] for key in keys)
    only_first = LayerFilter("layers[0]")
    with AdapterSwitch(model, [AdapterUse(weights, layers=only_first)]) as switch:
        switch.activate(switch.active(1.0))
        changed = [key for key in keys if weight_of(model, key) is not originals[key]]
    assert changed == [QKV.format(0)]


def test_layers_of_another_model_are_refused(model):
    weights = adapter(model, QKV.format(0))
    weights[QKV.format(99)] = weights[QKV.format(0)]
    with pytest.raises(AdapterError, match="1 layers of a LoRA are none of"):
        AdapterSwitch(model, [AdapterUse(weights)])


@pytest.mark.parametrize("interval", [(0.5, 0.2), (-0.1, 1.0), (0.0, 1.5), (float("nan"), 1.0)])
def test_intervals_that_make_no_sense(interval):
    with pytest.raises(InputError, match="lora_interval is"):
        AdapterUse({}, 1.0, interval)


def test_strengths_change_on_the_loaded_model_per_lora_and_target(model):
    key = QKV.format(0)
    loras = [adapter(model, key, DURATION, seed=seed) for seed in range(2)]
    uses = [
        AdapterUse(lora, name=f"{name}.safetensors") for lora, name in zip(loras, "ab", strict=True)
    ]
    originals = {k: weight_of(model, k) for k in (key, DURATION)}

    def expected(target: str, first: float, second: float) -> torch.Tensor:
        return loras[1][target].apply(loras[0][target].apply(originals[target], first), second)

    with AdapterSwitch(model, uses) as switch:
        switch.activate(switch.active(1.0))
        for call, dit, duration in (
            ((0.5,), (0.5, 0.5), (0.5, 0.5)),
            ((-1.0, "a", "transformer"), (-1.0, 0.5), (0.5, 0.5)),
            ((2.0, 1, "conditioner"), (-1.0, 0.5), (0.5, 2.0)),
            ((0.0, "b.safetensors"), (-1.0, 0.0), (0.5, 0.0)),
            ((0.0, 0, "transformer"), (0.0, 0.0), (0.5, 0.0)),
            ((1.0, "b"), (0.0, 1.0), (0.5, 1.0)),
        ):
            switch.set_strength(*call)
            assert torch.equal(weight_of(model, DURATION), expected(DURATION, *duration))
            switch.activate(switch.active(1.0))  # as the next run does
            assert torch.equal(weight_of(model, key), expected(key, *dit))
        assert switch.strengths == (("a.safetensors", 0.0, 0.5), ("b.safetensors", 1.0, 1.0))
        switch.set_strength(0.25, "b")
        assert torch.equal(weight_of(model, key), expected(key, 0.0, 0.25))  # at once
    assert all(weight_of(model, k) is original for k, original in originals.items())


def test_strengths_may_be_set_before_the_block_and_change_the_sound(model):
    weights = adapter(model, QKV.format(0), DURATION)
    switch = AdapterSwitch(model, [AdapterUse(weights)])
    switch.set_strength(0.3)
    assert weight_of(model, DURATION).data_ptr() == switch._originals[DURATION].data_ptr()
    with switch:
        first = sampled(model, [1.5], switch)
        switch.set_strength(0.9)
        second = sampled(model, [1.5], switch)
    with AdapterSwitch(model, [AdapterUse(weights, 0.3)]) as other:
        assert torch.equal(sampled(model, [1.5], other), first)
    with AdapterSwitch(model, [AdapterUse(weights, 0.9)]) as other:
        assert torch.equal(sampled(model, [1.5], other), second)
    assert rel_l2(first, second) > 1e-3


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ((1.0, "c"), "there is none. Known: 0 a.safetensors, 1 a.safetensors"),
        ((1.0, "a"), "several have that name"),
        ((1.0, 2), "there is none"),
        ((1.0, -1), "there is none"),
        ((1.0, 0, "dit"), "target"),
        ((float("nan"),), "strength"),
    ],
)
def test_strengths_of_nothing_are_refused(model, call, said):
    uses = [AdapterUse(adapter(model, DURATION), name="a.safetensors")] * 2
    with pytest.raises(InputError) as caught:
        AdapterSwitch(model, uses).set_strength(*call)
    assert said in str(caught.value)


class _Spy(AdapterSwitch):
    """Notes what is put in place."""

    def activate(self, key):
        self.__dict__.setdefault("seen", []).append(key)
        super().activate(key)


def sampled(model, seconds, switch=None, **settings):
    """Latents of a run without text, one item per duration, seed 5 onwards."""
    frames = torch.zeros(len(seconds), 256, 108)
    empty = TextConditioning(torch.zeros(1, 1, 768), torch.zeros(1, 1, dtype=torch.bool))
    return sample_latent(
        model,
        StartLatent(frames, tuple(seconds)),
        SampleSettings(steps=4, **settings),
        empty,
        None,
        Seeds(5),
        switch=switch,
    )


def test_sampling_with_an_interval_switches_per_step(model):
    weights = adapter(model, *(QKV.format(i) for i in range(2)))
    plain, always = sampled(model, [1.5]), None
    with AdapterSwitch(model, [AdapterUse(weights)]) as switch:
        always = sampled(model, [1.5], switch)
    with _Spy(model, [AdapterUse(weights, 1.0, (0.5, 0.99))]) as switch:
        part = sampled(model, [1.5], switch, sampler="euler", shift="none")
    assert switch.seen == [(), (0,), ()]  # levels 1, 0.75, 0.5, 0.25
    assert rel_l2(always, plain) > 1e-3
    assert rel_l2(part, always) > 1e-3
    assert rel_l2(sampled(model, [1.5]), plain) == 0


def test_an_item_does_not_depend_on_its_batch_when_its_interval_differs(model):
    weights = adapter(model, *(QKV.format(i) for i in range(2)))
    settings = SampleSettings(steps=4, shift="full", sampler="euler")
    levels = schedule_for(model.config, settings, [1.5, 60.0])[:, 2].tolist()
    low, high = sorted(levels)
    assert high - low > 0.01
    use = AdapterUse(weights, 1.0, ((low + high) / 2, 1.0))  # at step 2 only one item is inside
    frames = torch.zeros(2, 256, target_frames(60.0, model.sample_size))
    text = TextConditioning(torch.zeros(1, 1, 768), torch.zeros(1, 1, dtype=torch.bool))
    with _Spy(model, [use]) as switch:
        start = StartLatent(frames, (1.5, 60.0))
        both = sample_latent(model, start, settings, text, None, Seeds(5), switch=switch)
        assert switch.seen == [(0,), (), (0,), ()]  # steps 0 and 1 alike, two groups at step 2
        for item, seconds in enumerate((1.5, 60.0)):
            own = target_frames(seconds, model.sample_size)
            start = StartLatent(frames[:1, :, :own], (seconds,), batch_index=(item,))
            alone = sample_latent(model, start, settings, text, None, Seeds(5), switch=switch)
            assert rel_l2(both[item : item + 1, :, :own], alone) < 1e-5
