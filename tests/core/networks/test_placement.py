"""`auto` precision: bfloat16 where it is fast and latents stay exact. Memory: what tensors take."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.profiler import profile

from sa3_core.checkpoints.load import load_model
from sa3_core.networks import placement
from sa3_core.networks.config import DiTConfig
from sa3_core.networks.dit import DiffusionTransformer
from sa3_core.networks.model import SA3Model
from sa3_core.networks.placement import CPU_FLOAT32, CPU_HALF, dit_memory
from sa3_core.sampling.noise import Seeds
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning

PLAIN = DiTConfig(width=128, depth=3, heads=2, differential=False)
DIFFERENTIAL = DiTConfig(width=128, depth=3, heads=2, differential=True)
CPU, GPU, META = torch.device("cpu"), torch.device("cuda"), torch.device("meta")


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
    ("named", "amd", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True, True),
        ({"avx512_bf16": True, "amx_bf16": False}, False, False),  # no faster than float32
        ({"avx512_bf16": False, "amx_bf16": True}, False, True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, True, False),
    ],
)
def test_the_instructions_are_read_from_torch(monkeypatch, unpinned, named, amd, expected):
    monkeypatch.setattr(unpinned, "amd_processor", lambda: amd)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: named, raising=False)
    assert unpinned.cpu_has_bfloat16() is expected


@pytest.mark.parametrize("avx512", [True, False])
def test_an_older_torch_or_another_processor(monkeypatch, unpinned, avx512):
    monkeypatch.setattr(unpinned, "amd_processor", lambda: True)
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
        (DIFFERENTIAL, "rf_denoiser", GPU, True, torch.float16),
    ],
)
def test_the_choice(monkeypatch, config, objective, device, instructions, expected):
    monkeypatch.setattr(placement, "cpu_has_bfloat16", lambda: instructions)
    assert placement.dit_dtype(config, objective, torch.float16, device) == expected


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
    monkeypatch.setattr(placement, "cpu_has_bfloat16", lambda: True)
    model = load_model(tiny_s)
    assert model.dtype == torch.bfloat16
    assert next(model.dit.parameters()).dtype == torch.bfloat16
    error = (_latent(model, seed) - exact).norm() / exact.norm()
    assert error > 0
    assert -20 * math.log10(float(error)) >= 30


def test_dit_estimate_grows_with_batch_and_length():
    medium = DiTConfig(width=1536, depth=24, heads=24, differential=True)

    def memory(batch, frames, dtype=torch.float16, device=GPU, **more):
        return dit_memory(medium, batch, frames, dtype, device, **more)

    assert 1.8 < memory(1, 2 * 1292) / memory(1, 1292) < 2.05
    assert memory(2, 1292) == 2 * memory(1, 1292)
    assert 1.5 < memory(1, 1292, torch.float32) / memory(1, 1292) < 2
    kept = 24 * 1292 * 1536 * 2  # to_local_embed of every block
    assert memory(1, 1292, local_rows=1) == memory(1, 1292) + kept
    assert memory(1, 1292, device=CPU) > memory(1, 1292)


@pytest.mark.parametrize("differential", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("batch", "local_rows"), [(1, 0), (2, 0), (1, 1), (2, 2)])
def test_dit_estimate_is_what_its_tensors_take(differential, dtype, batch, local_rows):
    config = DiTConfig(width=256, depth=4, heads=4, differential=differential)
    net = filled(DiffusionTransformer(config, device=META, dtype=dtype))
    frames, context = 600, torch.zeros(batch, 13, 768, dtype=dtype)
    x, t = torch.zeros(batch, 256, frames), torch.full((batch,), 0.5)
    local = torch.zeros(local_rows, 257, frames) if local_rows else None

    def call() -> None:
        bias, duration = torch.zeros(batch, 13), torch.zeros(batch, 768)
        net.velocity(x, t, net.prepare(context, bias, duration, local, None, frames))

    call()  # the first one makes the heap keep what is freed, with a tensor of its own
    cpu = CPU_FLOAT32 if dtype == torch.float32 else CPU_HALF
    libraries = cpu.beyond(0, config.width)
    activations = (dit_memory(config, batch, frames, dtype, CPU) - libraries) / (1 + cpu.gaps)
    constants = dit_memory(config, batch, frames, dtype, GPU, local_rows)
    constants -= dit_memory(config, batch, frames, dtype, GPU)
    assert 0.85 < (activations + constants) / traced_peak(call) < 1.15


def filled(net: torch.nn.Module) -> torch.nn.Module:
    """A net from the meta device with zeros for weights."""
    net.to_empty(device=CPU).requires_grad_(False)
    for value in net.state_dict().values():
        value.zero_()
    return net


def traced_peak(work: Callable[[], None]) -> int:
    """Most bytes that torch's tensors take at a time while `work` runs."""
    with torch.inference_mode(), profile(profile_memory=True) as trace:
        work()
    events = [e for e in trace.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes))
