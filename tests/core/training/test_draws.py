"""Random draws against the reference's own, and what must hold for any seed."""

from __future__ import annotations

import random

import pytest
import torch

from sa3_core.errors import InputError
from sa3_core.sampling.schedule import FullShift
from sa3_core.training.draws import (
    TIMESTEPS,
    DrawSettings,
    couple,
    draw_item,
    item_seed,
    shifted_levels,
)
from sa3_core.training.inpaint import MASKS, InpaintOdds, draw_inpaint_mask
from tests.helpers.support import load_golden


@pytest.fixture(scope="module")
def parts():
    return load_golden("training/random_parts")


def test_noise_levels_equal_the_reference(parts):
    levels = TIMESTEPS["trunc_logit_normal"](parts["sampler.normal"])
    assert torch.allclose(levels, parts["sampler.t"], atol=2e-6)
    for row, length in enumerate(parts["sampler.lengths"].tolist()):
        expected = parts["sampler.shifted"][row]
        shifted = shifted_levels(parts["sampler.t"], FullShift(), [length] * 64)
        assert torch.allclose(shifted, expected, atol=1e-6)


@pytest.mark.parametrize("name", TIMESTEPS.names)
def test_noise_levels_stay_in_range_at_extreme_draws(name):
    levels = TIMESTEPS[name](torch.tensor([-40.0, -6.0, 0.0, 6.0, 40.0]))
    assert bool(torch.isfinite(levels).all())
    assert float(levels.min()) >= 0
    assert float(levels.max()) <= 1


@pytest.mark.parametrize("size", [2, 4, 6])
def test_coupling_equals_the_reference(parts, size):
    order = couple(parts[f"coupling.{size}.x"], parts[f"coupling.{size}.noise"])
    assert torch.equal(order, parts[f"coupling.{size}.order"])


@pytest.mark.parametrize(
    ("kind", "stored"), [("segments", "RANDOM_SEGMENTS"), ("causal", "CAUSAL_MASK")]
)
def test_inpainting_masks_equal_the_reference(parts, kind, stored):
    numbers = random.Random(5)
    masks = torch.stack([MASKS[kind](numbers, 60, 100) for _ in range(4)])
    assert torch.equal(masks, parts[f"inpaint.seed5.{stored}"])


def test_an_items_draws_are_its_own():
    settings = DrawSettings()
    first = draw_item(settings, item_seed(42, 7, 3), 20, 40)
    again = draw_item(settings, item_seed(42, 7, 3), 20, 40)
    other = draw_item(settings, item_seed(42, 8, 3), 20, 40)
    assert torch.equal(first.noise, again.noise)
    assert first.level == again.level
    assert not torch.equal(first.noise, other.noise)


def test_draws_follow_the_settings():
    odds = DrawSettings(inpaint=InpaintOdds(0.3, 0.3), text_dropout=0.25)
    draws = [draw_item(odds, item_seed(0, i), 60, 400) for i in range(2000)]
    dropped = sum(d.dropped for d in draws) / 2000
    extension = sum(int(d.scored.sum()) - 60 for d in draws) / 2000
    full = sum(not d.given.any() for d in draws) / 2000
    assert abs(dropped - 0.25) < 0.04
    assert abs(extension - 42.6) < 4
    assert 0.36 < full < 0.46
    assert not any(bool((d.given[0] > 0)[~d.scored].any()) for d in draws)


def test_every_kind_of_mask_copes_with_a_single_frame():
    for seed in range(50):
        mask = draw_inpaint_mask(random.Random(seed), InpaintOdds(0.5, 0.5), 1, 4)
        assert mask.shape == (1, 4)
        assert not mask[:, 1:].any()


def test_odds_above_one_are_refused():
    with pytest.raises(InputError, match="at most 1 together"):
        InpaintOdds(0.7, 0.5)
