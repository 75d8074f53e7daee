"""Memory estimates: linear in length, smaller in chunks, larger tiles on a GPU."""

from __future__ import annotations

import pytest
import torch

from sa3_core.codec.memory import MIN_CHUNK, auto_chunk, decode_memory, encode_memory
from sa3_core.networks.config import ResamplerConfig, SAMEConfig

CPU, GPU = torch.device("cpu"), torch.device("cuda")
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
