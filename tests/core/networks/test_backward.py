"""Written-out ways back against autograd's: every gradient of a whole net, and the same result."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from sa3_core.checkpoints.load import load_model
from sa3_core.networks import backward
from sa3_core.training.products import Frozen, adapted_product
from tests.helpers.plain_ways import gated as plain_gated
from tests.helpers.plain_ways import plain_ways
from tests.helpers.support import rel_l2, tiny_checkpoint


def velocity(net, x: Tensor, masked: bool) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    batch, frames = len(x), x.shape[-1]
    mask = (torch.arange(frames) < frames - 3).expand(batch, -1) if masked else None
    constants = net.prepare(
        context=torch.randn(batch, 4, net.config.cond_width, generator=generator).to(net.dtype),
        context_bias=None,
        global_cond=torch.randn(batch, net.config.cond_width, generator=generator),
        local_cond=torch.randn(batch, net.config.local_channels, frames, generator=generator),
        padding_mask=mask,
        frames=frames,
        per_block=True,
    )
    return net.velocity(x, torch.linspace(0.2, 0.9, batch), constants)


def gradients(net, x: Tensor, masked: bool, plain: bool) -> tuple[Tensor, dict[str, Tensor]]:
    net.zero_grad()
    x = x.clone().requires_grad_(True)
    with plain_ways() if plain else nullcontext():
        out = velocity(net, x, masked)
        (out * torch.linspace(-1, 1, out.shape[-1])).sum().backward()
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return out.detach(), {**found, "x": x.grad}


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
@pytest.mark.parametrize(
    ("batch", "frames", "masked"), [(1, 13, False), (1, 12, True), (2, 9, True)]
)
def test_every_gradient_is_that_of_autograd(variant, batch, frames, masked):
    net = load_model(tiny_checkpoint(variant)).dit.requires_grad_(True)
    x = torch.randn(batch, 256, frames, generator=torch.Generator().manual_seed(1))
    out, found = gradients(net, x, masked, plain=False)
    same, wanted = gradients(net, x, masked, plain=True)
    assert rel_l2(out, same) <= 1e-6
    assert found.keys() == wanted.keys()
    assert len(found) > 50
    for name, value in wanted.items():
        assert rel_l2(found[name], value) <= 1e-5, name
    with torch.no_grad():
        assert torch.equal(velocity(net, x, masked), out)


def test_half_precision_keeps_its_types():
    both = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    wide, narrow = both.float().requires_grad_(True), both.requires_grad_(True)
    for value in (wide, narrow):
        backward.gated(value).sum().backward()
    assert wide.grad is not None
    assert narrow.grad is not None
    assert narrow.grad.dtype == torch.bfloat16
    assert rel_l2(narrow.grad.float(), wide.grad) <= 5e-3


@pytest.mark.parametrize("kind", ["lora", "dora-rows"])
def test_a_gate_writes_over_what_nobody_asks_for_again(kind):
    gain = torch.ones(16) if kind == "dora-rows" else None
    generator = torch.Generator().manual_seed(1)
    x, left, right, weight = (
        torch.randn(shape, generator=generator, requires_grad=shape != (16, 6))
        for shape in ((300, 6), (16, 2), (2, 6), (16, 6))
    )
    frozen = Frozen(lambda _: weight, None, None)

    def grads(gate) -> tuple[Tensor, Tensor, Tensor]:
        both = adapted_product(x, left, right, gain, frozen)
        before = both.detach().clone()
        found = torch.autograd.grad(gate(both).sin().sum(), (x, left, right))
        assert torch.equal(both, before) == (gate is plain_gated or gain is not None)
        return found

    for found, wanted in zip(grads(backward.gated), grads(plain_gated), strict=True):
        assert rel_l2(found, wanted) <= 1e-6
