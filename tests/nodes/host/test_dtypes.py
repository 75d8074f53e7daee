"""`precision` of Load SA3 Model on a CPU: what `auto` and `bf16` compute in, and who has a say."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from tests.helpers.support import rel_l2


@pytest.fixture
def able(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU with bfloat16 instructions."""
    module = importlib.import_module("sa3_pack.sa3_core.networks.placement")
    monkeypatch.setattr(module, "cpu_has_bfloat16", lambda: True)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("auto", torch.bfloat16), ("bf16", torch.bfloat16), ("fp32", torch.float32)],
)
def test_a_cpu_with_the_instructions(able, bridge, tiny_s, precision, expected):
    patcher = bridge.model.load_patcher(str(tiny_s), "tiny-s", precision, "auto")
    assert patcher.model.get_dtype() == patcher.model.get_dtype_inference() == expected
    shown = "\n".join(bridge.loading.describe(patcher))
    assert str(expected).removeprefix("torch.") in shown
    assert "computed in" not in shown


@pytest.mark.parametrize(("precision", "expected"), [("auto", "float32"), ("bf16", "bfloat16")])
def test_a_cpu_without_them_computes_in_float32(bridge, tiny_s, precision, expected):
    patcher = bridge.model.load_patcher(str(tiny_s), "tiny-s", precision, "auto")
    assert str(patcher.model.get_dtype()) == f"torch.{expected}"
    assert patcher.model.get_dtype_inference() == torch.float32


def test_models_that_lose_too_much_stay_float32(able, bridge, tiny_s: Path, tiny_m: Path):
    base = bridge.model.load_patcher(str(tiny_s), "tiny-s", "auto", "rectified_flow")
    differential = bridge.model.load_patcher(str(tiny_m), "tiny-m", "auto", "auto")
    assert base.model.get_dtype() == differential.model.get_dtype() == torch.float32


@pytest.mark.parametrize("flag", ["fp32_unet", "force_fp32"])
def test_the_hosts_flags_decide(able, bridge, tiny_s, flag, monkeypatch):
    monkeypatch.setattr(importlib.import_module("comfy.cli_args").args, flag, True)
    patcher = bridge.model.load_patcher(str(tiny_s), "tiny-s", "auto", "auto")
    assert patcher.model.get_dtype() == torch.float32


def test_sampling_in_bfloat16_is_close(able, bridge: SimpleNamespace, tiny_s, prompt):
    def run(precision: str) -> torch.Tensor:
        patcher = bridge.model.load_patcher(str(tiny_s), "tiny-s", precision, "auto")
        latent = {"samples": torch.zeros(1, 256, 64), "seconds": [2.0]}
        settings = bridge.core_settings.SampleSettings(steps=4)
        seeds = bridge.core_noise.Seeds(3)
        out, _ = bridge.sampling.sample(patcher, latent, settings, prompt, None, seeds)
        return out["samples"]

    assert 0 < rel_l2(run("auto"), run("fp32")) < 10 ** (-30 / 20)
