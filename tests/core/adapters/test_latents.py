"""Final latents under every adapter type, at strengths 1 and 0.5 and stacked, as the reference's.

The golden files hold every fourth channel. Those of -xs types depend on the reference's float32
SVD, which changes with the number of threads: with its two threads ours agree to 5e-6, with one
to 3e-5.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sa3_core.adapters.build import build_adapter
from sa3_core.adapters.file import read_adapter
from sa3_core.adapters.rules import ADAPTER_TYPES
from sa3_core.adapters.switch import AdapterSwitch
from sa3_core.adapters.use import AdapterUse
from sa3_core.checkpoints.load import load_model
from sa3_core.networks.model import SA3Model
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning
from tests.helpers.support import golden_path, load_golden, rel_l2, tiny_checkpoint

FRAMES, SECONDS, STEPS = 82, 1.5, 4
PLAIN, OTHER_BASES = 1e-5, 5e-5  # relative L2


@pytest.fixture(scope="module", params=["tiny-s", "tiny-m"])
def variant(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(variant) -> SA3Model:
    return load_model(tiny_checkpoint(variant))


def use(model: SA3Model, variant: str, name: str, strength: float, folder: Path) -> AdapterUse:
    path = folder / f"{name}.safetensors"
    path.write_bytes(golden_path(f"{variant}/adapter_{name}").read_bytes())
    weights = {f"model.model.{key}": value for key, value in model.dit.state_dict().items()}
    for key, value in model.conditioner.state_dict().items():
        weights[f"conditioner.{key}"] = value
    return AdapterUse(build_adapter(read_adapter(path), weights), strength)


def sampled(model: SA3Model, uses: list[AdapterUse]) -> torch.Tensor:
    tokens = load_golden("t5gemma")["tokens.0"][None]
    text = TextConditioning(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))
    generator = torch.Generator().manual_seed(1234)
    with AdapterSwitch(model, uses) as switch:
        return sample_latent(
            model,
            StartLatent(torch.zeros(1, 256, FRAMES), (SECONDS,)),
            SampleSettings(steps=STEPS),
            text,
            None,
            lambda: torch.randn(1, 256, FRAMES, generator=generator),
            switch=switch,
        )


def error(latents: torch.Tensor, variant: str, name: str) -> float:
    valid = load_golden(f"{variant}/t2a").settings["valid"][0]
    expected = load_golden(f"{variant}/{name}")["latents"]
    return rel_l2(latents[:, ::4, :valid], expected[:, :, :valid])


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("kind", ADAPTER_TYPES)
def test_every_type_at_two_strengths(kind, strength, variant, model, tmp_path):
    latents = sampled(model, [use(model, variant, kind, strength, tmp_path)])
    suffix = "" if strength == 1 else f"_strength{strength}"
    limit = OTHER_BASES if kind.endswith("-xs") else PLAIN
    assert error(latents, variant, f"lora_{kind}{suffix}") <= limit


def test_a_stack_of_two(variant, model, tmp_path):
    uses = [use(model, variant, n, 1.0, tmp_path) for n in ("stack0_lora", "stack1_dora-rows")]
    assert error(sampled(model, uses), variant, "lora_stack") <= PLAIN
    assert error(sampled(model, []), variant, "lora_stack") > 0.01
    assert error(sampled(model, uses[::-1]), variant, "lora_stack") > 1e-3
