"""The benchmark's count of necessary operations, against torch's own counter on toy nets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sa3_core.checkpoints.library import Library
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.networks.conditioning import Conditioner
from sa3_core.networks.config import DiTConfig
from sa3_core.networks.dit import DiffusionTransformer
from sa3_core.networks.same import SAMEAutoencoder
from sa3_core.text.encoder import load_t5gemma
from sa3_core.text.encoder_file import read_encoder_file
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from sa3_core.training.step import predict, score
from tests.benchmarks.cases import train
from tests.benchmarks.measuring import flops

FRAMES, PROMPT = 40, 10


def _product(_: Any, first: Any, second: Any, **__: Any) -> int:
    return 2 * first[0] * first[1] * second[1]


# torch counts addmm, and not what writes into its first operand.
IN_PLACE = {torch.ops.aten.addmm_: _product}


class PlainOps:
    """torch's own layers, which its counter knows."""

    Linear: ClassVar[Any] = nn.Linear
    Conv1d: ClassVar[Any] = nn.Conv1d


def counted(work: Any) -> float:
    """Operations that torch counts; attention as plain matmuls."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("differential", [False, True])
def test_generation(differential: bool, tiny_s: Path) -> None:
    config = DiTConfig(width=128, depth=3, heads=2, differential=differential)
    net = DiffusionTransformer(config, PlainOps)
    conditioner = Conditioner(open_checkpoint(tiny_s).config, PlainOps)
    context = torch.zeros(1, PROMPT + 2, 768), torch.zeros(1, PROMPT + 2)
    x, t = torch.zeros(1, config.channels, FRAMES), torch.ones(1)

    def generation() -> None:
        duration = conditioner.duration((1.0,))
        constants = net.prepare(*context, duration, None, None, FRAMES)
        for _ in range(2):
            net.velocity(x, t, constants)

    expected = flops.generation(config, FRAMES, PROMPT, steps=2)
    assert counted(generation) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("differential", [False, True])
def test_training_step(differential: bool, recompute: bool) -> None:
    rank, seconds = 4, 3.5
    config = DiTConfig(width=128, depth=3, heads=2, differential=differential)
    model = train.model_of(config, torch.device("cpu"))
    inputs = train.inputs_of(seconds, model.device)
    frames = inputs.clips.shape[-1]
    adapter = TrainedAdapter(model, AdapterSettings("lora", rank))
    with (
        adapter.attached(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter,
    ):
        adapter.begin_step()
        score(predict(model, inputs, recompute), inputs).total.backward()
    assert (config.memory_tokens + frames) % 2 == 0  # no spare row
    context = train.TEXT_TOKENS + 2
    expected = flops.training_step(config, frames, context, rank, recompute)
    assert counter.get_total_flops() == pytest.approx(expected.total, rel=0.01)
    assert expected.layers > expected.others


def test_same_in_chunks(tiny_s: Path) -> None:
    config = open_checkpoint(tiny_s).config.same
    assert config is not None
    net, latents = SAMEAutoencoder(config, PlainOps), 64
    decode = counted(lambda: net.decode(torch.zeros(1, 256, latents)))
    encode = counted(lambda: net.encode(torch.zeros(1, 2, latents * 4096)))
    # The second half of the layers works on half a chunk more at both ends.
    more = 1.0 + 2 / latents
    assert flops.same_decode(config, latents) < decode < more * flops.same_decode(config, latents)
    assert flops.same_encode(config, latents) < encode < more * flops.same_encode(config, latents)


def test_window_attention_is_counted_within_its_window(tiny_m: Path) -> None:
    config = open_checkpoint(tiny_m).config.same
    assert config is not None
    net, latents = SAMEAutoencoder(config, PlainOps), 64
    found = counted(lambda: net.decode(torch.zeros(1, 256, latents)))
    # Blocks of queries see the keys of all their queries' windows: a little more than needed.
    necessary = flops.same_decode(config, latents)
    assert necessary < found < 1.2 * necessary
    ends = 17 * 18  # keys that the first and last queries lack, both ends together
    tokens, width, depth = latents * 17, config.decoder.width, config.decoder.depth
    whole = 2 * depth * 4 * width * (tokens * 35 - ends)
    layers = 2 * depth * tokens * width * width * (6 + 9)
    outside = 2 * latents * width * (256 + 16 * 512)
    assert necessary == whole + layers + outside


def test_text_encoder(tiny_s: Path) -> None:
    folder = Library({}).text_encoder_for(tiny_s)
    encoder, config = load_t5gemma(folder), read_encoder_file(folder).config
    ids = [list(range(5, 5 + PROMPT))]
    expected = flops.text_encoder(config, PROMPT)
    assert counted(lambda: encoder.encode_ids(ids)) == pytest.approx(expected, rel=0.01)


def test_published_sizes() -> None:
    small = DiTConfig(width=1024, depth=20, heads=16, differential=False)
    necessary = flops.dit_step(small, 388, PROMPT + 2)
    # What the published code does again at every step: keys and values of 257 context tokens with
    # their embedding, all of them attended, local conditioning of every frame.
    context = 2 * 257 * (768 * 1024 + 1024 * 1024 + 20 * 2 * 1024 * 1024)
    attended = 4 * 20 * (64 + 388) * (257 - PROMPT - 2) * 1024
    local = 2 * 20 * 388 * (257 * 1024 + 1024 * 1024)
    assert necessary + context + attended + local == pytest.approx(411e9, rel=0.005)
