"""Masks over latent frames: the reference's rule, the outward rule, continuation, display."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch

from sa3_core.editing.masks import MASK_RULES, continuation_mask, keep_mask, masked_spans
from sa3_core.editing.regions import Region
from sa3_core.errors import RegionError, UnknownNameError
from sa3_core.geometry import HOP, SAMPLE_RATE, effective_frames, target_frames

FRAME = HOP / SAMPLE_RATE


def reference_mask(regions, frames, seconds):
    """The reference's way: a mask over samples, then nearest neighbour."""
    mask = torch.ones(1, 1, frames * HOP)
    for start, end in regions:
        mask[..., int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)] = 0
    mask[..., int(seconds * SAMPLE_RATE) :] = 0
    return torch.nn.functional.interpolate(mask, size=frames, mode="nearest")


def random_regions(rng, seconds):
    for _ in range(rng.randint(1, 4)):
        start = rng.choice([rng.uniform(0, seconds * 0.99), rng.randint(0, 3) * FRAME])
        yield Region(start, start + rng.choice([rng.uniform(1e-3, 3), 2 * FRAME]))


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_masks_equal_the_reference_files(golden, variant):
    file = golden(f"{variant}/sampling")
    for name in ("inpaint", "continuation"):
        settings, expected = file.settings[name], file[f"{name}.local"][:, :1]
        start, end = (settings[f"inpaint_mask_{at}_seconds"] for at in ("start", "end"))
        if isinstance(start, list):  # the second region lies past the end
            start, end = start[0], end[0]
        got = keep_mask([Region(start, end)], expected.shape[-1], settings["duration"], "upstream")
        assert torch.equal(got, expected)
    settings = file.settings["continuation"]
    got = continuation_mask(66150, 108, settings["duration"], "upstream")
    assert torch.equal(got, file["continuation.local"][:, :1])


def test_upstream_rule_is_the_reference_on_random_regions():
    rng = random.Random(2)
    for _ in range(300):
        seconds = rng.uniform(0.5, 9)
        frames = target_frames(seconds, 5292032)
        regions = list(random_regions(rng, seconds))
        if len(regions) > effective_frames(seconds):
            continue
        got = keep_mask(regions, frames, seconds, "upstream")
        assert torch.equal(got, reference_mask(regions, frames, seconds)), regions


def test_cover_rule_makes_every_frame_that_a_marked_sample_touches():
    rng = random.Random(3)
    for _ in range(300):
        seconds = rng.uniform(0.5, 9)
        frames = target_frames(seconds, 5292032)
        regions = list(random_regions(rng, seconds))
        if len(regions) > effective_frames(seconds):
            continue
        keep = keep_mask(regions, frames, seconds)[0, 0]
        for i in range(effective_frames(seconds)):
            touched = any(
                r.start < (i + 1) * FRAME - 1e-9 and r.end > i * FRAME + 1e-9 for r in regions
            )
            assert keep[i] == float(not touched), (regions, i)
        assert not keep[effective_frames(seconds) :].any()
        assert bool((keep <= keep_mask(regions, frames, seconds, "upstream")[0, 0]).all())


def test_a_region_on_the_frame_grid_covers_just_its_frames():
    for first in range(60):
        region = Region(first * FRAME, (first + 2) * FRAME)
        keep = keep_mask([region], 82, 8.0)
        assert (keep[0, 0, :86] == 0).nonzero().flatten().tolist()[:2] == [first, first + 1]
        assert keep.sum() == 82 - 2


def test_what_was_masked_reads_back_as_the_same_mask():
    rng = random.Random(4)
    for _ in range(200):
        seconds = rng.uniform(1, 9)
        frames = target_frames(seconds, 5292032)
        keep = keep_mask(list(random_regions(rng, seconds))[:3], frames, seconds)
        spans = masked_spans(keep, seconds)
        assert torch.equal(keep_mask(spans, frames, seconds), keep)
        assert all(a.end < b.start for a, b in pairwise(spans))


def test_spans_for_display_end_with_the_piece():
    keep = keep_mask([Region(0.4, 0.5), Region(1.2, 3.0)], 82, 1.5)
    assert masked_spans(keep, 1.5) == [Region(4 * FRAME, 6 * FRAME), Region(12 * FRAME, 1.5)]
    assert masked_spans(keep_mask([], 82, 1.5), 1.5) == []


@pytest.mark.parametrize(
    ("regions", "words"),
    [
        ([Region(2, 1)], "2-1 s"),
        ([Region(1, 1)], "empty"),
        ([Region(5.0, 6.0)], "within 0-5 s"),
        ([Region(-1, 2)], "-1-2 s"),
        ([Region(float("nan"), 2)], "nan"),
        ([Region(1, float("inf"))], "inf"),
        ([Region(i / 60, i / 60 + 0.01) for i in range(60)], "60 regions .* 54 latent frames"),
    ],
)
def test_bad_regions_are_named(regions, words):
    with pytest.raises(RegionError, match=words):
        keep_mask(regions, 118, 5.0)


def test_rules_are_registered():
    assert MASK_RULES.names == ["cover", "upstream"]
    with pytest.raises(UnknownNameError, match="cover"):
        keep_mask([Region(0, 1)], 82, 1.5, "covers")


@pytest.mark.parametrize("samples", [8192, 8193, 66150, 69631, 69632])
def test_continuation_keeps_whole_frames_or_also_the_last_part(samples):
    seconds = 4.0
    cover = continuation_mask(samples, 108, seconds)[0, 0]
    upstream = continuation_mask(samples, 108, seconds, "upstream")[0, 0]
    assert cover.sum() == samples // HOP
    assert upstream.sum() == -(-samples // HOP)
    assert cover[: samples // HOP].all()


@pytest.mark.parametrize("lead", [4096, 5000, 44100])
def test_before_the_start_only_whole_frames_are_kept(lead):
    source = 66150
    seconds = (lead + source) / SAMPLE_RATE
    frames = target_frames(seconds, 5292032)
    for rule in MASK_RULES.names:
        keep = continuation_mask(source, frames, seconds, rule, lead)[0, 0]
        first, last = -(-lead // HOP), -(-(lead + source) // HOP)
        assert keep.nonzero().flatten().tolist() == list(range(first, last))


def test_new_audio_on_both_sides():
    keep = continuation_mask(66150, 120, 4.0, lead_samples=44100)[0, 0]
    assert keep.nonzero().flatten().tolist() == list(range(11, 26))


@pytest.mark.parametrize("rule", ["cover", "upstream"])
def test_a_source_shorter_than_a_frame_cannot_be_continued(rule):
    with pytest.raises(RegionError, match="3000 samples"):
        continuation_mask(3000, 82, 2.0, rule)
