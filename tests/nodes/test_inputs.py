"""Errors in nodes name the node's own inputs, not the core's values behind them."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

SAMPLING = {"model": None, "positive": None, "latent": None, "seed": 0}
EXTENDING = {"audio": None, "model": None, "vae": None, "positive": None, "seconds": 1.0, "seed": 0}


@pytest.mark.parametrize(
    ("node", "inputs", "message"),
    [
        ("sampling.SA3Sampler", {**SAMPLING, "denoise": 2.0}, "denoise is 2.0; it must be"),
        ("sampling.SA3Sampler", {**SAMPLING, "steps": -1}, "steps is -1; it must be"),
        (
            "sampling.SA3Sampler",
            {**SAMPLING, "cfg_start": 0.9, "cfg_end": 0.2},
            "cfg_start to cfg_end is 0.9 to 0.2; it must",
        ),
        ("schedule.SA3Scheduler", {"model": None, "denoise": -1.0}, "denoise is -1.0; it must be"),
        ("extending.SA3ExtendAudio", {**EXTENDING, "apg": 2.0}, "apg is 2.0; it must be"),
        (
            "adapters.SA3LoraLoader",
            {"model": None, "lora": "x", "interval_start": 0.5, "interval_end": 0.1},
            "interval_start to interval_end is 0.5 to 0.1; it must",
        ),
        (
            "adapters.SA3LoraLoader",
            {"model": None, "lora": "x", "layer_filter": "-"},
            "layer_filter is '-'; ",
        ),
    ],
)
def test_an_error_starts_with_the_input_it_is_about(pack, node, inputs, message):
    module, name = node.split(".")
    chosen: Any = getattr(importlib.import_module(f"sa3_pack.nodes.{module}"), name)
    with pytest.raises(ValueError, match=r"it must|names no layer") as refused:
        chosen.execute(**inputs)
    assert str(refused.value).startswith(message)
    for part in message.partition(" is ")[0].split(" to "):
        assert part in {entry.id for entry in chosen.define_schema().inputs}
