"""Parts of long sources: which samples are encoded, and that nothing else changes by it."""

from __future__ import annotations

import pytest
import torch

from sa3_core.editing.edits import Inpaint, plan_items
from sa3_core.editing.excerpt import LEAST_CONTEXT, excerpt_around
from sa3_core.editing.masks import keep_mask
from sa3_core.editing.regions import Region
from sa3_core.errors import InputError
from sa3_core.geometry import HOP, SAMPLE_RATE, samples_of, target_frames


@pytest.mark.parametrize("rate", [8000, 32000, 44100, 48000, 96000])
@pytest.mark.parametrize("start", [0.0, 0.05, 33.3, 100.017, 299.9])
def test_regions_and_their_surroundings_are_in_it(rate: int, start: float) -> None:
    samples, region = 300 * rate, Region(start, start + 0.1)
    part = excerpt_around([region], samples, rate, 10.0)
    first, last = part.span
    assert max(0.0, start - 10.1) * rate - 1 <= first <= max(0.0, start - 10.0) * rate
    assert min(samples, round((start + 10.1) * rate)) - 1 <= last <= (start + 10.21) * rate
    assert last <= samples
    inside = part.inside([region])[0]
    assert inside.start + part.origin == pytest.approx(start, abs=1e-10)


def test_at_44100_hz_frames_are_those_of_the_whole() -> None:
    samples, regions = 300 * SAMPLE_RATE, [Region(120.0, 121.5), Region(130.31, 131)]
    part = excerpt_around(regions, samples, SAMPLE_RATE, 5.0)
    assert part.span[0] % HOP == part.span[1] % HOP == 0
    whole = keep_mask(regions, 3300, 300.0)
    own = (part.span[1] - part.span[0]) // HOP
    inside = keep_mask(part.inside(regions), own, own * HOP / SAMPLE_RATE)
    first = part.span[0] // HOP
    assert torch.equal(inside, whole[..., first : first + own])


def test_no_context_is_the_whole_source() -> None:
    region = [Region(5, 6)]
    assert excerpt_around(region, 10_000, 1000, 0.0).span == (0, 10_000)
    assert excerpt_around(region, 10_000, 1000, 1e9).span == (0, 10_000)
    for context in (LEAST_CONTEXT / 2, -1.0, float("nan")):
        with pytest.raises(InputError, match="or 0 for the whole source"):
            excerpt_around(region, 10_000, 1000, context)


def inpaint(rate: int = SAMPLE_RATE, context: float = 0.0, **settings: object) -> Inpaint:
    generator = torch.Generator().manual_seed(0)
    source = torch.rand(2, 20 * rate, generator=generator) * 0.5
    settings = {"regions": ["9.3-10.07"], **settings}
    return Inpaint(source, rate, context_seconds=context, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [44100, 48000, 32000])
@pytest.mark.parametrize("regions", ["9.3-10.07", "8-8.5, 10.01-11", "18-19.99", "19-22", "0-1"])
def test_all_but_the_regions_is_the_sources_own(rate: int, regions: str) -> None:
    edit = inpaint(rate, 2.0, regions=[regions])
    (part,), (whole,) = (plan_items(e, [None]) for e in (edit, inpaint(rate, regions=[regions])))
    assert part.source is not None
    assert whole.source is not None
    assert part.seconds < 8
    made = torch.zeros(1, 2, samples_of(part.seconds))
    out = part.source.paste(made, 0.02)
    full = whole.source.paste(torch.zeros(1, 2, samples_of(whole.seconds)), 0.02)
    assert torch.equal(out, full)
    assert (out == 0).any()


def test_only_the_part_is_prepared() -> None:
    (plan,) = plan_items(inpaint(context=1.0), [None])
    assert plan.audio is not None
    assert plan.audio.shape[-1] <= 3 * SAMPLE_RATE
    assert plan.keep is not None
    frames = target_frames(plan.seconds, 10_000_000)
    made = (plan.keep(frames)[..., : round(plan.seconds * SAMPLE_RATE / HOP)] == 0).sum()
    assert made == 9  # 9.3-10.07 s touch as many frames of 93 ms


def test_every_item_has_its_own_part() -> None:
    first, second = plan_items(inpaint(context=1.0, regions=["2-3", "15-16.5"]), [None, None])
    assert first.audio is not None
    assert second.audio is not None
    assert first.audio.shape != second.audio.shape
    with pytest.raises(InputError, match="give no seconds"):
        plan_items(inpaint(context=1.0), [10.0])
