"""flash-attn as a backend: its tensor layout, when it is chosen, and that both backends agree.

The package needs a CUDA card, so a stand-in with its documented layout and checks takes its place.
"""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from sa3_core import attention, flash
from sa3_core.model import load_model
from tests.support import rel_l2


@pytest.fixture
def flash_calls(monkeypatch):
    """A module `flash_attn` whose function takes [B, N, H, d]; returns the shapes it was given."""
    calls = []

    def flash_attn_func(q, k, v):
        assert q.shape[0] == k.shape[0] == v.shape[0]
        assert q.shape[2:] == k.shape[2:] == v.shape[2:]
        calls.append(tuple(q.shape))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    module = ModuleType("flash_attn")
    module.flash_attn_func = flash_attn_func
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    monkeypatch.setattr(attention, "flash_usable", lambda q: True)
    return calls


def test_it_is_left_alone_on_a_cpu_and_in_float32():
    assert not flash.flash_usable(torch.zeros(1, 2, 3, 64))
    assert not flash.flash_usable(torch.zeros(1, 2, 3, 64, dtype=torch.bfloat16))


def test_unmasked_attention_goes_through_it_and_agrees(flash_calls):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 7, 64, generator=generator)
    k, v = (torch.randn(2, 4, 9, 64, generator=generator) for _ in range(2))
    expected = F.scaled_dot_product_attention(q, k, v)
    assert rel_l2(attention.attend(q, k, v), expected) < 1e-6
    assert flash_calls == [(2, 7, 4, 64)]


def test_masked_attention_does_not(flash_calls):
    x = torch.randn(1, 2, 5, 64)
    mask = torch.tensor([True, True, False, True, True])[None, None, None]
    expected = F.scaled_dot_product_attention(x, x, x, attn_mask=mask)
    assert torch.equal(attention.attend(x, x, x, mask), expected)
    assert flash_calls == []


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
