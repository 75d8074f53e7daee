"""The text encoder under the host's memory management: what it is said to need."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.profiler import profile

from sa3_core.text.encoder import T5Gemma, _build_encoder
from sa3_core.text.encoder_file import EncoderConfig
from sa3_core.text.tokenizers import TokenizedPrompt


class NoTokenizer:
    """Ids are given here."""

    def tokenize(self, prompt: str, max_length: int) -> TokenizedPrompt:
        raise AssertionError(prompt)


@pytest.fixture(scope="module")
def encoder() -> T5Gemma:
    """As wide as the published one, with fewer layers and words; memory does not know of them."""
    sizes = EncoderConfig(vocabulary=100, layers=2, mlp_width=2048, heads=12, kv_heads=12)
    net = _build_encoder(sizes)
    rotary = net.encoder.rotary_emb
    net.to_empty(device="cpu")
    net.encoder.rotary_emb = type(rotary)(config=net.encoder.config)  # no weights: not emptied
    for value in net.parameters():
        value.data.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    return T5Gemma(net, NoTokenizer(), torch.float32).train(False)


@pytest.mark.parametrize(("batch", "tokens"), [(1, 32), (1, 256), (4, 256)])
def test_the_estimate_is_a_little_above_what_its_tensors_take(bridge, encoder, batch, tokens):
    ids = [[1] * tokens] * batch
    with profile(profile_memory=True) as trace:
        encoder.encode_ids(ids)
    events = [e for e in trace.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    peak = max(itertools.accumulate(changes))
    assert 1.05 < bridge.clip.encoding_memory(batch, tokens) / peak < 1.35
