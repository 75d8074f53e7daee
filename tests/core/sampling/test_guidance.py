"""Guidance: the formulas of the spec on random tensors, and what must not matter."""

from __future__ import annotations

import math

import pytest
import torch

from sa3_core.errors import InputError
from sa3_core.sampling.guidance import Guidance, guided_velocity, project

B, C, T = 2, 256, 20
VALID = (14, 20)


@pytest.fixture
def fields():
    """x, t, v_cond, v_uncond and a padding mask."""
    generator = torch.Generator().manual_seed(3)
    x, v_cond, v_uncond = (torch.randn(B, C, T, generator=generator) for _ in range(3))
    mask = torch.arange(T)[None] < torch.tensor(VALID)[:, None]
    return x, torch.tensor([0.9, 0.35]), v_cond, v_uncond, mask


def spec_velocity(fields, cfg, apg=1.0):
    """Spec section 9 word for word, in float64."""
    x, t, v_cond, v_uncond, mask = (f.double() for f in fields)
    level, m = t[:, None, None], mask[:, None]
    d_c, d_u = x - level * v_cond, x - level * v_uncond
    diff = d_c - d_u
    a, b = m * diff, m * d_c
    dot, square = ((p * q).sum((1, 2), keepdim=True) for p, q in ((a, b), (b, b)))
    push = apg * (a - dot / square * b) + (1 - apg) * diff
    return (x - (d_c + (cfg - 1) * push)) / level


@pytest.mark.parametrize("cfg", [0.0, 3.0, 7.0])
@pytest.mark.parametrize("apg", [0.0, 0.5, 1.0])
def test_follows_the_spec(fields, rel_l2, cfg, apg):
    got = guided_velocity(*fields[:4], Guidance(cfg, apg), fields[4])
    assert got.dtype == torch.float32
    assert rel_l2(got, spec_velocity(fields, cfg, apg)) <= 1e-6


def test_plain_guidance_is_extrapolation_in_velocity(fields, rel_l2):
    x, t, v_cond, v_uncond, _ = fields
    got = guided_velocity(x, t, v_cond, v_uncond, Guidance(5.0, apg=0.0))
    assert rel_l2(got, v_uncond + 5 * (v_cond - v_uncond)) <= 1e-6


def test_cfg_1_is_the_prompt_alone(fields):
    assert torch.equal(guided_velocity(*fields[:4], Guidance(1.0), fields[4]), fields[2])
    assert not Guidance(1.0).active
    assert not Guidance(1.0).acts_at(torch.tensor([0.5])).any()


def test_projection_splits_the_push(fields, rel_l2):
    x, _, v_cond, v_uncond, mask = fields
    parallel, orthogonal = project(v_cond - v_uncond, x, mask)
    m = mask[:, None].float()
    assert rel_l2(parallel + orthogonal, (v_cond - v_uncond) * m) <= 1e-6
    for item in range(B):
        dot = (orthogonal[item] * x[item] * m[item]).sum()
        assert abs(dot / (orthogonal[item].norm() * x[item].norm())) <= 1e-6
        ratio = parallel[item, :, : VALID[item]] / x[item, :, : VALID[item]]
        torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))


@pytest.mark.parametrize(
    "guidance",
    [Guidance(6.0), Guidance(6.0, 0.5), Guidance(6.0, norm_threshold=9.0, rescale=0.7)],
)
def test_padding_does_not_matter(fields, guidance):
    x, t, v_cond, v_uncond, mask = fields
    short = slice(0, VALID[0])
    whole = guided_velocity(x, t, v_cond, v_uncond, guidance, mask)
    alone = guided_velocity(
        x[:1, :, short], t[:1], v_cond[:1, :, short], v_uncond[:1, :, short], guidance
    )
    torch.testing.assert_close(whole[:1, :, short], alone, atol=1e-4, rtol=1e-5)
    other = [f.clone() for f in (x, v_cond, v_uncond)]
    for f in other:
        f[0, :, VALID[0] :] = 77.0
    again = guided_velocity(other[0], t, other[1], other[2], guidance, mask)
    assert torch.equal(again[0, :, short], whole[0, :, short])


def test_interval_is_inclusive_and_outside_it_the_prompt_decides(fields):
    x, _, v_cond, v_uncond, mask = fields
    t = torch.tensor([0.7, 0.35])
    full = guided_velocity(x, t, v_cond, v_uncond, Guidance(4.0), mask)
    part = guided_velocity(x, t, v_cond, v_uncond, Guidance(4.0, interval=(0.4, 0.7)), mask)
    assert torch.equal(part[0], full[0])
    assert torch.equal(part[1], v_cond[1])
    assert Guidance(4.0, interval=(0.35, 0.5)).acts_at(t).tolist() == [False, True]


def test_norm_threshold_shortens_only_what_is_longer(fields, rel_l2):
    x, t, v_cond, v_uncond, mask = fields
    m = mask[:, None].float()
    level = t[:, None, None]
    norms = (level * (v_uncond - v_cond) * m).flatten(1).norm(dim=1)
    threshold = float(norms.min()) * 1.01  # one item below, one above
    plain = guided_velocity(x, t, v_cond, v_uncond, Guidance(3.0, 0.0), mask)
    cut = guided_velocity(x, t, v_cond, v_uncond, Guidance(3.0, 0.0, (0, 1), threshold), mask)
    small, large = int(norms.argmin()), int(norms.argmax())
    assert rel_l2(cut[small], plain[small]) <= 1e-7
    pushed = ((cut - v_cond) * level / 2 * m)[large].norm()
    assert float(pushed) == pytest.approx(threshold, rel=1e-5)


def test_rescale_restores_the_deviation_of_the_unguided_velocity(fields):
    x, t, v_cond, v_uncond, mask = fields
    v = guided_velocity(x, t, v_cond, v_uncond, Guidance(8.0), mask)
    full = guided_velocity(x, t, v_cond, v_uncond, Guidance(8.0, rescale=1.0), mask)
    torch.testing.assert_close(full.std(dim=1), v_cond.std(dim=1))
    half = guided_velocity(x, t, v_cond, v_uncond, Guidance(8.0, rescale=0.5), mask)
    torch.testing.assert_close(half, 0.5 * full + 0.5 * v)


def test_nothing_breaks_at_t_0_with_equal_velocities_or_silence(fields):
    x, _, v_cond, v_uncond, mask = fields
    zero = torch.zeros(B)
    guidance = Guidance(7.0, norm_threshold=1.0, rescale=0.5)
    silent = torch.zeros_like(x)
    for given in (
        (x, zero, v_cond, v_uncond),
        (x, zero + 0.5, v_cond, v_cond),
        (silent, zero + 0.5, silent, silent),
    ):
        assert bool(torch.isfinite(guided_velocity(*given, guidance, mask)).all())


def test_half_precision_velocities_are_combined_in_float32(fields):
    x, t, v_cond, v_uncond, mask = fields
    half = guided_velocity(x, t, v_cond.half(), v_uncond.half(), Guidance(6.0), mask)
    same = guided_velocity(
        x, t, v_cond.half().float(), v_uncond.half().float(), Guidance(6.0), mask
    )
    assert half.dtype == torch.float32
    assert torch.equal(half, same)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"cfg": math.nan}, "cfg is nan"),
        ({"cfg": math.inf}, "cfg is inf"),
        ({"cfg": -1.0}, "cfg is -1.0"),
        ({"cfg": None}, "cfg is None"),
        ({"cfg": 7.0, "apg": 1.5}, "apg is 1.5"),
        ({"cfg": 7.0, "apg": math.nan}, "apg is nan"),
        ({"cfg": 7.0, "interval": (-0.1, 1.0)}, "cfg_interval is -0.1 to 1.0"),
        ({"cfg": 7.0, "interval": (0.0, math.nan)}, "cfg_interval is 0.0 to nan"),
        ({"cfg": 7.0, "interval": (0.8, 0.2)}, "0.8 to 0.2"),
        ({"cfg": 7.0, "norm_threshold": -1.0}, "norm_threshold is -1.0"),
        ({"cfg": 7.0, "rescale": 2.0}, "rescale"),
    ],
)
def test_bad_settings_are_named(values, name):
    with pytest.raises(InputError, match=name):
        Guidance(**values)
