"""`auto` precision: bfloat16 on CPUs that multiply it, and only where latents stay exact."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

from sa3_core.checkpoints.infer import DiTConfig
from sa3_core.checkpoints.load import SA3Model, load_model
from sa3_core.networks import placement as precision
from sa3_core.sampling.sample import Seeds, StartLatent, sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.text.conditioning import TextConditioning

PLAIN = DiTConfig(width=128, depth=3, heads=2, differential=False)
DIFFERENTIAL = DiTConfig(width=128, depth=3, heads=2, differential=True)
CPU, CARD = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def unpinned() -> ModuleType:
    """A second copy of the module: tests run with the first one's answer pinned."""
    spec = importlib.util.find_spec("sa3_core.networks.placement")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, False),
    ],
)
def test_the_instructions_are_read_from_torch(monkeypatch, unpinned, named, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: named, raising=False)
    assert unpinned.cpu_has_bfloat16() is expected


@pytest.mark.parametrize("avx512", [True, False])
def test_an_older_torch_or_another_processor(monkeypatch, unpinned, avx512):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "arm64"}, False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert unpinned.cpu_has_bfloat16() is avx512


@pytest.mark.parametrize(
    ("config", "objective", "device", "instructions", "expected"),
    [
        (PLAIN, "rf_denoiser", CPU, True, torch.bfloat16),
        (PLAIN, "rf_denoiser", CPU, False, torch.float32),
        (PLAIN, "rectified_flow", CPU, True, torch.float32),
        (DIFFERENTIAL, "rf_denoiser", CPU, True, torch.float32),
        (DIFFERENTIAL, "rf_denoiser", CARD, True, torch.float16),
    ],
)
def test_the_choice(monkeypatch, config, objective, device, instructions, expected):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: instructions)
    assert precision.dit_dtype(config, objective, torch.float16, device) == expected


def _latent(model: SA3Model, seed: int) -> torch.Tensor:
    text = torch.randn(1, 10, 768, generator=torch.Generator().manual_seed(seed))
    prompt = TextConditioning(text, torch.ones(1, 10, dtype=torch.bool))
    start = StartLatent(torch.zeros(1, 256, 118), (5.0,))
    return sample_latent(model, start, SampleSettings(), prompt, None, Seeds(seed))


@pytest.mark.parametrize("seed", [0, 1])
def test_where_auto_takes_bfloat16_latents_stay_30_db_above_the_difference(
    monkeypatch, tiny_s: Path, seed: int
):
    exact = _latent(load_model(tiny_s), seed)
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    model = load_model(tiny_s)
    assert model.dtype == torch.bfloat16
    assert next(model.dit.parameters()).dtype == torch.bfloat16
    error = (_latent(model, seed) - exact).norm() / exact.norm()
    assert error > 0
    assert -20 * math.log10(float(error)) >= 30
