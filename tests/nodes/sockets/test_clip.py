"""The text encoder under the host's memory management: what it needs, and lying in two places."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.profiler import profile

from sa3_core.text.encoder import T5Gemma, _build_encoder
from sa3_core.text.encoder_file import EncoderConfig
from sa3_core.text.tokenizers import TokenizedPrompt
from tests.helpers.stand_in_card import card
from tests.helpers.text_encoder_files import FOLDER, encoder_tensors, write_single_file


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


def _resident(mm, patcher) -> int:
    modules = patcher.model.modules()
    return sum(mm.module_size(m) for m in modules if getattr(m, "comfy_patched_weights", False))


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
@pytest.mark.parametrize("patched", [False, True])
def test_a_part_of_the_encoder_may_be_loaded(
    mm, bridge, tiny_s, tmp_path, monkeypatch, stored, patched
):
    dtype = getattr(torch, stored)
    file = write_single_file(tmp_path / "text.safetensors", encoder_tensors(tiny_s), dtype)
    clip = bridge.clip.load_clip(str(file), "fp32")
    assert {p.dtype for p in clip.patcher.model.parameters()} == {dtype}
    if patched:
        names = [n for n in clip.patcher.model_state_dict() if "o_proj" in n or "embed" in n]
        change = {n: torch.full_like(clip.patcher.model_state_dict()[n], 0.02) for n in names}
        clip.patcher.add_patches({n: ("diff", (value,)) for n, value in change.items()})
    whole, _ = clip.encode_prompts(["warm pad", "deep bass"])
    mm.unload_all_models()
    size, seen = clip.patcher.model_size(), []

    def partial(models, *_args, **_kwargs):
        for model in models:
            model.unpatch_model(model.offload_device)
            model.partially_load(model.load_device, budget)
            seen.append(_resident(mm, model))

    monkeypatch.setattr(mm, "load_models_gpu", partial)
    for budget in (1, size // 20, size // 2):
        clip.cond_stage_model.recent.clear()
        part, _ = clip.encode_prompts(["warm pad", "deep bass"])
        assert seen.pop() <= max(budget, 0)
        # The host rounds a patched weight that it keeps to what it is stored in.
        rounded = patched and stored == "bfloat16"
        error = float((part.tokens - whole.tokens).norm() / whole.tokens.norm())
        assert error < 0.01 if rounded else torch.equal(part.tokens, whole.tokens)
    clip.patcher.detach()


def test_nearly_all_of_the_encoder_can_be_left_out_of_the_card(bridge, tiny_s):
    net = bridge.clip.load_clip(str(tiny_s / FOLDER)).patcher.model
    streamed = [m for m in net.modules() if hasattr(m, "comfy_cast_weights")]
    inside = sum(p.numel() for m in streamed for p in m.parameters(recurse=False))
    assert inside > 0.99 * sum(p.numel() for p in net.parameters())


def test_only_rows_of_the_table_go_to_the_card(bridge, tiny_s):
    net = bridge.clip.load_clip(str(tiny_s / FOLDER)).cond_stage_model
    table = net.encoder.get_input_embeddings()
    with card() as there:
        rows = table(torch.tensor([[1, 2, 3]]), device=torch.device("cuda"))
    assert rows.is_cuda
    assert rows.shape == (1, 3, 768)
    assert there.cost == (0, 1)  # the rows
