"""How a LoRA is used: strengths by part, layers, noise levels, and what it is used on."""

from __future__ import annotations

import pytest
import torch

from sa3_core.adapters.layer_filter import LayerFilter
from sa3_core.adapters.use import AdapterUse
from sa3_core.errors import InputError

QKV = "model.model.transformer.layers.{}.self_attn.to_qkv.weight"
DURATION = "conditioner.conditioners.seconds_total.embedder.embedding.1.weight"


def test_the_conditioner_takes_its_own_strength_or_the_same():
    assert AdapterUse("x", 0.5).strength_for(DURATION) == 0.5
    own = AdapterUse("x", 0.5, strength_conditioner=-1.0)
    assert (own.strength_for(QKV.format(0)), own.strength_for(DURATION)) == (0.5, -1.0)
    off = AdapterUse("x", 0.5, strength_conditioner=0.0)
    assert (off.strength_for(QKV.format(0)), off.strength_for(DURATION)) == (0.5, 0.0)


def test_layers_that_are_left_out_have_no_strength():
    use = AdapterUse("x", 0.5, layers=LayerFilter("layers[0]"), strength_conditioner=2.0)
    assert use.strength_for(QKV.format(0)) == 0.5
    assert use.strength_for(QKV.format(1)) == use.strength_for(DURATION) == 0.0


def test_both_ends_of_the_interval_belong_to_it():
    use = AdapterUse("x", interval=(0.3, 0.7))
    levels = torch.tensor([0.29, 0.3, 0.7, 0.71]).tolist()
    assert [use.acts_at(t) for t in levels] == [False, True, True, False]
    assert not use.always
    assert AdapterUse("x").always
    assert AdapterUse("x").acts_at(0.0)


def test_a_name_becomes_what_it_names_with_the_same_settings():
    named = AdapterUse("x", 0.5, (0.1, 0.9), LayerFilter("ff"), -1.0, partial=True)
    built = named.with_lora({"key": 1})
    assert built.lora == {"key": 1}
    assert built.with_lora("x") == named


@pytest.mark.parametrize("interval", [(0.5, 0.2), (-0.1, 1.0), (0.0, 1.5), (float("nan"), 1.0)])
def test_intervals_that_make_no_sense(interval):
    with pytest.raises(InputError, match="lora_interval is"):
        AdapterUse("x", 1.0, interval)
