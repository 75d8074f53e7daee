"""Branches against autograd through the rebuilt weight, all eight types."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa3_core.adapters.bases import svd_bases
from sa3_core.adapters.rules import ADAPTER_TYPES, AdapterWeight, LowRank, LowRankXS
from sa3_core.training.branches import Branch
from tests.helpers.support import rel_l2

RANK, SCALE = 4, 1.5


def layer_and_input(conv: bool) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    if conv:
        return nn.Conv1d(24, 24, 1, bias=False).requires_grad_(False), torch.randn(2, 24, 9)
    return nn.Linear(24, 40).requires_grad_(False), torch.randn(2, 9, 24)


def moved_branch(layer: nn.Module, kind: str) -> Branch:
    bases = svd_bases(layer.weight, RANK) if kind.endswith("-xs") else None
    branch = Branch(layer, kind, RANK, SCALE, bases)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in branch.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return branch


def rebuilt(layer: nn.Module, branch: Branch) -> Tensor:
    """The adapted weight, differentiable, by the rules' own words."""
    left, right = branch._sides()
    weight = layer.weight.flatten(1) + SCALE * (left @ right)
    for name, axis in zip(branch._rule.names, branch._rule.axes, strict=True):
        norms = weight.norm(dim=1 - axis, keepdim=True) + 1e-12
        weight = getattr(branch, name).unsqueeze(1 - axis) * weight / norms
    return weight.view(layer.weight.shape)


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("kind", ADAPTER_TYPES)
def test_a_branch_equals_the_rebuilt_weight_and_its_gradients(kind, conv):
    layer, x = layer_and_input(conv)
    x.requires_grad_(True)
    branch = moved_branch(layer, kind)
    target = torch.randn(2, 40 if not conv else 24, 9)
    target = target if conv else target.transpose(1, 2)
    weight = rebuilt(layer, branch)
    expected = F.conv1d(x, weight) if conv else F.linear(x, weight, layer.bias)
    (expected * target).sum().backward()
    wanted = {name: p.grad.clone() for name, p in branch.named_parameters()}
    wanted_x = x.grad.clone()
    branch.zero_grad()
    x.grad = None
    handles = branch.attach()
    branch.begin_step()
    found = layer(x)
    (found * target).sum().backward()
    for handle in handles:
        handle.remove()
    assert rel_l2(found, expected) <= 2e-6
    assert rel_l2(x.grad, wanted_x) <= 2e-6
    for name, parameter in branch.named_parameters():
        assert rel_l2(parameter.grad, wanted[name]) <= 2e-5, name
    assert layer.weight.grad is None


@pytest.mark.parametrize("kind", ADAPTER_TYPES)
def test_a_branch_is_what_the_loader_makes_of_its_tensors(kind):
    layer, _ = layer_and_input(conv=False)
    branch = moved_branch(layer, kind)
    if kind.endswith("-xs"):
        factor = LowRankXS(branch._u, branch._v.T, branch.M_xs.detach())
    else:
        factor = LowRank(branch.lora_A.detach(), branch.lora_B.detach())
    names = branch._rule.names
    magnitudes = tuple(getattr(branch, name).detach() for name in names)
    loaded = AdapterWeight(factor, kind.removesuffix("-xs"), magnitudes, SCALE)
    assert rel_l2(rebuilt(layer, branch), loaded.apply(layer.weight, 1.0)) <= 1e-6


@pytest.mark.parametrize("kind", ADAPTER_TYPES)
def test_a_new_branch_changes_nothing(kind):
    layer, x = layer_and_input(conv=False)
    bases = svd_bases(layer.weight, RANK) if kind.endswith("-xs") else None
    branch = Branch(layer, kind, RANK, SCALE, bases)
    before = layer(x)
    handles = branch.attach()
    branch.begin_step()
    assert rel_l2(layer(x), before) <= 1e-6
    change, own = branch.squares()  # of the whole weight, gains included
    assert change <= 1e-12 * own
    for handle in handles:
        handle.remove()
    assert torch.equal(layer(x), before)


def test_dropout_leaves_whole_input_channels_out():
    branch = moved_branch(layer_and_input(conv=False)[0], "lora")
    branch.begin_step(0.5, torch.Generator().manual_seed(3))
    right = branch._now.right
    kept = right.abs().sum(dim=0) > 0
    assert 4 < int(kept.sum()) < 20
    assert torch.allclose(right[:, kept], 2 * branch.lora_A[:, kept])
