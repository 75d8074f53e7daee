"""Texts that no run could read are refused when the graph is queued, by the input's name."""

from __future__ import annotations

import importlib

import pytest

CASES = [
    ("sampling", "SA3Sampler", "seeds", "7, x", "1 2"),
    ("sampling", "SA3Sampler", "shift_options", "rate=fast", "rate=0.5"),
    ("schedule", "SA3Scheduler", "shift_options", "rate=1 rate=2", "rate=0.5, anchor_length=1500"),
    ("latent", "SA3EmptyLatent", "durations", "10, soon", "10, 0:20"),
    ("adapters", "SA3LoraLoader", "layer_filter", "layers[5-2]", "layers[0-5], -to_out"),
    ("saving", "SA3SaveAudio", "filename_prefix", "a/x?", "audio/x"),
    ("latent_files", "SA3SaveLatents", "filename_prefix", "a/x?", "latents/x"),
    ("adapters", "SA3SaveModel", "filename_prefix", "a/x?", "checkpoints/x"),
]


@pytest.mark.parametrize(("room", "node", "name", "wrong", "right"), CASES)
def test_what_cannot_be_read_is_refused(pack, room, node, name, wrong, right):
    kind = getattr(importlib.import_module(f"sa3_pack.nodes.{room}"), node)
    refused = kind.validate_inputs(**{name: wrong})
    assert isinstance(refused, str)
    assert refused
    for readable in (right, "", None):
        if name != "filename_prefix" or readable:
            assert kind.validate_inputs(**{name: readable}) is True


def test_the_first_of_several_reasons_is_given(pack):
    sampler = importlib.import_module("sa3_pack.nodes.sampling").SA3Sampler
    refused = sampler.validate_inputs(seeds="7, x", shift_options="rate=fast")
    assert "seed" in refused
    assert "rate" not in refused
