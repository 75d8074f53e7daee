"""flash-attn as a backend: its tensor layout, when it is chosen, and that both backends agree.

The package needs a CUDA card, so a stand-in with its documented layout and checks takes its place.
"""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from sa3_core.checkpoints.load import load_model
from sa3_core.networks import attention
from sa3_core.sampling.noise import Seeds
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning
from tests.helpers.support import rel_l2


@pytest.fixture
def flash_calls(monkeypatch):
    """A module `flash_attn` with the package's layouts and checks; the shapes it was given."""
    calls = []

    def flash_attn_func(q, k, v):
        assert q.shape[0] == k.shape[0] == v.shape[0]
        assert q.shape[2:] == k.shape[2:] == v.shape[2:]
        calls.append(tuple(q.shape))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    def flash_attn_varlen_func(q, k, v, cu_q, cu_k, max_q, max_k):
        assert cu_q.dtype == cu_k.dtype == torch.int32
        assert cu_q[-1] == len(q) == len(k) == len(v)
        assert max_q >= cu_q.diff().max()
        assert max_k >= cu_k.diff().max()
        assert cu_q.diff().min() >= 0
        calls.append(tuple(q.shape))
        out = torch.full_like(q, torch.nan)
        edges = zip(cu_q.tolist(), cu_q[1:].tolist(), strict=False)
        for start, end in edges:
            part = (x[None, start:end].transpose(1, 2) for x in (q, k, v))
            out[start:end] = F.scaled_dot_product_attention(*part)[0].transpose(0, 1)
        return out

    module = ModuleType("flash_attn")
    module.flash_attn_func = flash_attn_func
    module.flash_attn_varlen_func = flash_attn_varlen_func
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    monkeypatch.setattr(attention, "flash_usable", lambda q: True)
    return calls


def test_it_is_left_alone_on_a_cpu_and_in_float32():
    assert not attention.flash_usable(torch.zeros(1, 2, 3, 64))
    assert not attention.flash_usable(torch.zeros(1, 2, 3, 64, dtype=torch.bfloat16))


def test_unmasked_attention_goes_through_it_and_agrees(flash_calls):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 7, 64, generator=generator)
    k, v = (torch.randn(2, 4, 9, 64, generator=generator) for _ in range(2))
    expected = F.scaled_dot_product_attention(q, k, v)
    assert rel_l2(attention.attend(q, k, v), expected) < 1e-6
    assert flash_calls == [(2, 7, 4, 64)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("lengths", [(5, 9, 2), (9, 9, 1), (9,), (1,)])
@pytest.mark.parametrize("difference", [False, True])
def test_unequal_items_go_through_it_in_one_call(flash_calls, lengths, difference):
    batch, always = len(lengths), 3
    frames = torch.arange(9)[None] < torch.tensor(lengths)[:, None]
    heads = 8 if difference else 4
    q, k, v = (draw(batch, heads, 12, 64, seed=i) for i in range(3))
    keys = attention.key_mask(frames, always, q)
    assert keys.segments.tolist() == [
        edge for b, n in enumerate(lengths) for edge in (12 * b, 12 * b + 3 + n)
    ] + [12 * batch]
    plain = attention.KeyMask(keys.valid)
    out, expected = (attention.attend_valid(q, k, v, m) for m in (keys, plain))
    assert flash_calls == [(12 * batch, heads, 64)]
    for item, n in enumerate(lengths):
        valid = slice(0, always + n)
        assert rel_l2(out[item, :, valid], expected[item, :, valid]) < 1e-6
    assert out.isfinite().all()  # padding too: it passes through every later layer


def test_one_mask_serves_both_halves_of_guidance(flash_calls):
    keys = attention.key_mask(torch.arange(9)[None] < 4, 1, torch.zeros(2, 5))
    assert keys.segments.tolist() == [0, 5, 10, 15, 20]


def test_a_mask_with_holes_is_left_to_torch(flash_calls):
    holes = torch.tensor([[True, False, True]])
    assert attention.key_mask(holes, 2, torch.zeros(1)).segments is None


def test_a_compiler_traces_it_whole(flash_calls):
    keys = attention.key_mask(torch.arange(9)[None] < 4, 0, torch.zeros(1))
    x = draw(1, 2, 9, 64)
    seen = []

    def varlen(q, k, v, cu_q, cu_k, max_q, max_k):  # traceable, as the package's own operator is
        seen.append((max_q, max_k))
        return q * 2

    sys.modules["flash_attn"].flash_attn_varlen_func = varlen
    traced = torch.compile(attention.attend_valid, backend="eager", fullgraph=True)
    assert torch.equal(traced(x, x, x, keys), 2 * x)
    assert seen == [(9, 9)]


def test_masked_attention_does_not(flash_calls):
    x = torch.randn(1, 2, 5, 64)
    mask = torch.tensor([True, True, False, True, True])[None, None, None]
    expected = F.scaled_dot_product_attention(x, x, x, attn_mask=mask)
    assert torch.equal(attention.attend(x, x, x, mask), expected)
    assert flash_calls == []


@pytest.mark.parametrize("variant", ["tiny_s", "tiny_m"])
def test_a_whole_forward_of_unequal_items_agrees(request, monkeypatch, flash_calls, variant):
    model = load_model(request.getfixturevalue(variant))
    valid = (30, 11)
    mask = torch.arange(30)[None] < torch.tensor(valid)[:, None]
    x, context, duration = draw(2, 256, 30), draw(2, 9, 768), draw(2, 768)
    t, bias = torch.tensor([0.6, 0.3]), torch.zeros(2, 9)
    outs = []
    for usable in (True, False):
        monkeypatch.setattr(attention, "flash_usable", lambda q, usable=usable: usable)
        constants = model.dit.prepare(context, bias, duration, None, mask, 30)
        outs.append(model.dit.velocity(x, t, constants))
    depth, memory = model.config.dit.depth, model.config.dit.memory_tokens
    assert [shape[0] for shape in flash_calls] == [2 * (memory + 30)] * depth
    for item, n in enumerate(valid):
        assert rel_l2(outs[0][item, :, :n], outs[1][item, :, :n]) < 1e-6


@pytest.mark.parametrize("variant", ["tiny_s", "tiny_m"])
def test_a_whole_forward_agrees(request, monkeypatch, flash_calls, variant):
    model = load_model(request.getfixturevalue(variant))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 256, 30, generator=generator)
    context = torch.randn(1, 9, 768, generator=generator)
    duration = torch.randn(1, 768, generator=generator)
    constants = model.dit.prepare(context, None, duration, None, None, 30)
    t = torch.tensor([0.6])
    with_flash = model.dit.velocity(x, t, constants)
    assert len(flash_calls) == 2 * model.config.dit.depth  # self- and cross-attention
    monkeypatch.setattr(attention, "flash_usable", lambda q: False)
    assert rel_l2(with_flash, model.dit.velocity(x, t, constants)) < 1e-6


@pytest.mark.parametrize(
    ("dtype", "halves", "learning", "expected"),
    [
        (torch.bfloat16, 1, False, torch.bfloat16),
        (torch.bfloat16, 2, False, torch.float32),  # a difference keeps its digits
        (torch.bfloat16, 1, True, torch.float32),
        (torch.float16, 1, False, torch.float32),
        (torch.float32, 1, False, torch.float32),
    ],
)
def test_with_amx_frames_attend_in_bfloat16(monkeypatch, dtype, halves, learning, expected):
    monkeypatch.setattr(attention, "BFLOAT16_PAYS", True)
    with torch.set_grad_enabled(learning):
        assert attention.frames_dtype(torch.zeros(1, 2, dtype=dtype), halves) == expected
    monkeypatch.setattr(attention, "BFLOAT16_PAYS", False)
    with torch.no_grad():
        assert attention.frames_dtype(torch.zeros(1, 2, dtype=dtype), halves) == torch.float32


def test_attention_in_bfloat16_keeps_the_latents_as_near_to_float32(monkeypatch, tiny_s):
    exact, model = _latents(load_model(tiny_s)), load_model(tiny_s, dtype=torch.bfloat16)
    wide = _latents(model)
    monkeypatch.setattr(attention, "BFLOAT16_PAYS", True)
    narrow = _latents(model)
    assert not torch.equal(narrow, wide)
    assert rel_l2(narrow, exact) < 1.15 * rel_l2(wide, exact)


def _latents(model) -> torch.Tensor:
    """Of two pieces of unequal length, so that attention is masked."""
    tokens = torch.randn(2, 6, 768, generator=torch.Generator().manual_seed(1))
    prompt = TextConditioning(tokens, torch.ones(2, 6, dtype=torch.bool))
    start = StartLatent(torch.zeros(2, 256, 100), (4.0, 2.0))
    return sample_latent(model, start, SampleSettings(steps=4), prompt, None, Seeds(3))
