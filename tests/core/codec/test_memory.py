"""Memory estimates: linear in length, smaller in chunks, larger pieces on a GPU."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.profiler import profile

from sa3_core.checkpoints.infer import DiTConfig, ResamplerConfig, SAMEConfig
from sa3_core.codec.memory import (
    DIT_BUFFERS_FLOAT32,
    DIT_BUFFERS_HALF,
    DIT_GAPS,
    MIN_CHUNK,
    auto_chunk,
    decode_memory,
    dit_memory,
    encode_memory,
)
from sa3_core.networks.dit import DiffusionTransformer

CPU, GPU, META = torch.device("cpu"), torch.device("cuda"), torch.device("meta")
BLOCK = {"channels": 512, "width": 1536, "depth": 12, "kernel": 1, "chunk": None, "window": 1}
SAME_L = SAMEConfig(ResamplerConfig(**BLOCK), ResamplerConfig(**BLOCK, sinusoidal=8))
LONG = 4096  # latents of 380 s


@pytest.mark.parametrize("memory", [encode_memory, decode_memory])
def test_linear_in_length_and_bounded_in_chunks(memory):
    lengths = (LONG, LONG // 2, LONG // 4)
    whole, half, quarter = (memory(SAME_L, n, None, torch.float32, CPU) for n in lengths)
    assert (whole - half) / (half - quarter) == pytest.approx(2, rel=0.01)
    assert whole < 4e9  # 380 s, whole
    assert memory(SAME_L, LONG, 64, torch.float32, CPU) < 1e9
    assert memory(SAME_L, LONG, None, torch.bfloat16, CPU) < 0.7 * whole
    assert memory(SAME_L, LONG, None, torch.float32, GPU) > 1.3 * whole


def test_the_chunk_follows_the_free_memory():
    def chunk(free):
        return auto_chunk(SAME_L, LONG, free, torch.float32, CPU, decode_memory)

    assert chunk(1e11) is None
    sizes = [chunk(free) for free in (9e8, 6e8, 4e8, 1e6)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == MIN_CHUNK


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
    half = dtype != torch.float32
    buffers = DIT_BUFFERS_HALF if half else DIT_BUFFERS_FLOAT32 * config.width
    activations = (dit_memory(config, batch, frames, dtype, CPU) - buffers) / (1 + DIT_GAPS[half])
    constants = dit_memory(config, batch, frames, dtype, GPU, local_rows)
    constants -= dit_memory(config, batch, frames, dtype, GPU)
    assert 0.85 < (activations + constants) / traced_peak(call) < 1.15


def filled(net: torch.nn.Module) -> torch.nn.Module:
    """A net from the meta device with zeros for weights."""
    net.to_empty(device=CPU).requires_grad_(False)
    for value in net.state_dict().values():
        value.zero_()
    return net


def traced_peak(work) -> int:
    """Most bytes that torch's tensors take at a time while `work` runs."""
    with torch.inference_mode(), profile(profile_memory=True) as trace:
        work()
    events = [e for e in trace.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes))
