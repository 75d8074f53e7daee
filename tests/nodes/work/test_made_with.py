"""The seeds of takes are read from the running graph."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest

from tests.helpers.client import node


@pytest.fixture
def made_with(pack):
    return importlib.import_module("sa3_pack.nodes.bridge.work.made_with").made_with


def graph(**sampler):
    return {
        "1": node("SA3Sampler", seed=1, seeds=""),  # farther away
        "2": node("SA3SAMEEncode", latent=["1", 0]),
        "5:3": node("SA3Sampler", latent=["2", 0], **sampler),
        "4": node("SA3SAMEDecode", latent=["5:3", 0]),
        "6": node("SA3SaveAudio", audio=["4", 0]),
    }


def test_the_nearest_sampler_is_named_with_its_seeds(made_with):
    hidden = SimpleNamespace(prompt=graph(seed=2**64 - 1, seeds="7, 8"), unique_id="6")
    made = {"node": "5:3", "seed": str(2**64 - 1), "seeds": "7, 8"}
    assert made_with(hidden) == {"sa3_made": [made]}


def test_a_seed_that_comes_over_a_link_is_not_known(made_with):
    linked = SimpleNamespace(prompt=graph(seed=["9", 0]), unique_id="6")
    assert made_with(linked) == {}  # and not that of what the source was made with
    assert made_with(SimpleNamespace(prompt=None, unique_id="6")) == {}
