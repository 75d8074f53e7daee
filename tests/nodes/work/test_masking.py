"""Inpaint Mask: regions of every kind to a mask that says what is made anew."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from PIL import Image

from tests.helpers.editing_support import FRAME, RATE, music

SECONDS = 3.0


@pytest.fixture(scope="module")
def encoded(small):
    """Three seconds, encoded."""
    return small.encode(music(SECONDS))


@pytest.fixture(scope="module")
def mask(small):
    """Inpaint Mask as a function: (latent, keep [B, T], ui)."""
    node = small.module("nodes.editing").SA3InpaintMask

    def run(latent=None, regions="", **inputs):
        out = node.execute(latent=latent, regions=regions, **inputs)
        return out.args[0], 1 - out.args[0]["noise_mask"][:, 0], out

    return run


def made(keep, seconds=SECONDS):
    """Frames of the piece that are made anew."""
    frames = math.ceil(int(seconds * RATE) / FRAME)
    return [t for t in range(frames) if keep[t] < 0.5]


def test_cover_marks_every_touched_frame_and_upstream_those_whose_start_is(mask, encoded):
    latent, keep, _ = mask(encoded, "1-2")
    assert latent["noise_mask"].shape == (1, 1, encoded["samples"].shape[-1])
    assert made(keep[0]) == list(range(RATE // FRAME, math.ceil(2 * RATE / FRAME)))
    _, keep, _ = mask(encoded, "1-2", rule="upstream")
    assert made(keep[0]) == list(range(math.ceil(RATE / FRAME), math.ceil(2 * RATE / FRAME)))
    assert not keep[0, math.ceil(SECONDS * RATE / FRAME) :].any()  # headroom


def test_the_source_rides_along_by_reference_with_unrounded_regions(mask, encoded):
    latent, _, _ = mask(encoded, "0.1234-0.5678")
    assert latent["sa3_source"]["waveform"] is encoded["sa3_source"]["waveform"]
    assert latent["sa3_source"]["regions"] == [[(0.1234, 0.5678)]]
    assert encoded["sa3_source"]["regions"] is None
    assert "noise_mask" not in encoded


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"regions": "0.5-1, 2-2.5"}, [(0.5, 1.0), (2.0, 2.5)]),
        ({"regions": "0:00.5-0:01 1-1.5"}, [(0.5, 1.5)]),
        ({"regions": "50%-100%"}, [(1.5, 3.0)]),
        ({"regions": "bar 2-3", "bpm": 240.0}, [(1.0, 2.0)]),
        ({"regions": "bar 2", "bpm": 180.0, "beats_per_bar": 3}, [(1.0, 2.0)]),
        ({"regions": "1-2", "invert": True}, [(0.0, 1.0), (2.0, 3.0)]),
        ({"region_list": [(1.0, 2.0)]}, [(1.0, 2.0)]),
        ({"region_list": [[0.5, 1], [1, 2]]}, [(0.5, 2.0)]),
        ({"region_list": "1-2"}, [(1.0, 2.0)]),
        ({"region_list": torch.tensor([[1.0, 2.0]])}, [(1.0, 2.0)]),
        ({"region_list": [[(1.0, 2.0)]]}, [(1.0, 2.0)]),
        ({"regions": "0-0.5", "region_list": [(1.0, 2.0)]}, [(0.0, 0.5), (1.0, 2.0)]),
    ],
)
def test_ways_to_give_regions(mask, encoded, inputs, expected):
    latent, _, _ = mask(encoded, **inputs)
    assert latent["sa3_source"]["regions"] == [expected]


def test_the_regions_output_feeds_another_inpaint_mask(mask, encoded):
    _, keep, out = mask(encoded, "0.5-1, 2-2.5")
    _, again, _ = mask(encoded, region_list=out.args[1])
    assert torch.equal(keep, again)


def test_chained_masks_are_the_union_and_order_does_not_matter(mask, encoded):
    first, _, _ = mask(encoded, "0.5-1")
    latent, chained, _ = mask(first, "2-2.5")
    whole, keep, _ = mask(encoded, "0.5-1, 2-2.5")
    assert torch.equal(chained, keep)
    assert latent["sa3_source"]["regions"] == whole["sa3_source"]["regions"]


def test_earlier_regions_can_be_kept_as_they_are_but_are_not_pasted_over(mask, encoded):
    first, _, _ = mask(encoded, "0.5-1")
    latent, keep, _ = mask(first, "2-2.5", earlier_regions="keep as they are")
    assert torch.equal(keep, mask(encoded, "2-2.5")[1])
    assert latent["sa3_source"]["regions"] == [[(0.5, 1.0), (2.0, 2.5)]]


def test_a_region_past_the_end_lengthens_the_piece_alike_from_latent_and_from_audio(
    mask, encoded, small, rel_l2
):
    long, keep, _ = mask(encoded, "2-5.5")
    fresh, fresh_keep, _ = mask(None, "2-5.5", audio=music(SECONDS), vae=small.vae)
    assert long["seconds"] == fresh["seconds"] == [5.5]
    assert torch.equal(keep, fresh_keep)
    frames = small.module("sa3_core.geometry").target_frames(5.5, 10**9)
    assert long["samples"].shape == fresh["samples"].shape == (1, 256, frames)
    kept = keep[0] > 0
    assert kept.sum() == 2 * RATE // FRAME
    assert rel_l2(long["samples"][..., kept], fresh["samples"][..., kept]) <= 1e-5
    assert long["sa3_source"]["regions"] == [[(2.0, 5.5)]]


def test_lengthening_keeps_the_marks_of_a_chain(mask, encoded):
    first, _, _ = mask(encoded, "0.5-1")
    _, keep, _ = mask(first, "2-4")
    assert torch.equal(keep, mask(encoded, "0.5-1, 2-4")[1])


def test_one_list_per_line_repeats_one_latent(mask, encoded):
    latent, keep, out = mask(encoded, "0.5-1\n\n2-2.5, 1-1.2\n", one_list_per_line=True)
    assert latent["samples"].shape[0] == 2
    assert latent["seconds"] == [SECONDS, SECONDS]
    assert latent["sa3_source"]["regions"] == [[(0.5, 1.0)], [(1.0, 1.2), (2.0, 2.5)]]
    assert made(keep[0]) == made(mask(encoded, "0.5-1")[1][0])
    assert [line.split(":")[0] for line in out.ui["text"]] == ["item 1", "item 2"]


def test_items_of_different_lengths_each_get_their_own_percentages(mask, small):
    audio = {**music(2.0, batch=2), "lengths": [2 * RATE, RATE]}
    latent, keep, _ = mask(small.encode(audio), "50%-100%")
    assert latent["seconds"] == [2.0, 1.0]
    assert latent["sa3_source"]["regions"] == [[(1.0, 2.0)], [(0.5, 1.0)]]
    assert not torch.equal(keep[0], keep[1])


def test_counts_that_do_not_fit_name_both(mask, small, encoded):
    two = small.encode(music(1.0, batch=2))
    with pytest.raises(ValueError, match=r"2 latents for 3 items|3 .* for 2"):
        mask(two, "0-0.1\n0-0.2\n0-0.3", one_list_per_line=True)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"regions": ""}, "No region was given"),
        ({"regions": "2-1"}, r"2-1.*reversed"),
        ({"regions": "1-1"}, r"1-1.*empty"),
        ({"regions": "4-5"}, r"4-5.*0-3 s.*continue the audio"),
        ({"regions": "3-5"}, "continue the audio"),
        ({"regions": "-1-2"}, "before 0"),
        ({"regions": "nan-2"}, "cannot be read"),
        ({"regions": "bar 1"}, "BPM"),
        ({"region_list": [(float("nan"), 2.0)]}, "finite"),
        ({"region_list": [(0.0, float("inf"))]}, "finite"),
        ({"region_list": [(1.0, 2.0, 3.0)]}, "pair"),
        ({"region_list": 5}, "list of .start, end. pairs"),
        ({"region_list": []}, "list of regions is empty"),
        ({"regions": "0-3", "invert": True}, "cover all"),
        ({"regions": "0-0.1\n2-1", "one_list_per_line": True}, r"Item 2: .*reversed"),
        ({"regions": ",".join(f"{i / 100}-{i / 100 + 0.005}" for i in range(40))}, "40 regions"),
    ],
)
def test_bad_regions_say_what_is_wrong(mask, encoded, inputs, message):
    with pytest.raises(ValueError, match=message):
        mask(encoded, **inputs)


def test_unreadable_regions_are_refused_before_anything_runs(small):
    node = small.module("nodes.editing").SA3InpaintMask
    assert node.validate_inputs(regions="4-8, bar 2-3") is True
    assert node.validate_inputs(regions="") is True  # a list may be linked
    assert node.validate_inputs() is True
    assert "reversed" in node.validate_inputs(regions="8-4")
    assert "cannot be read" in node.validate_inputs(regions="four to eight")


def test_without_a_source_the_node_says_that_nothing_can_be_pasted(mask, encoded):
    bare = {key: value for key, value in encoded.items() if key != "sa3_source"}
    latent, _, out = mask(bare, "1-2")
    assert "sa3_source" not in latent
    assert any("connect `audio`" in line for line in out.ui["text"])
    latent, _, out = mask(bare, "1-2", audio=music(SECONDS))
    assert latent["sa3_source"]["regions"] == [[(1.0, 2.0)]]


def test_neither_latent_nor_vae_is_an_error(mask):
    with pytest.raises(ValueError, match="needs a latent, or audio together with a vae"):
        mask(None, "1-2", audio=music(1.0))


def test_a_region_that_marks_no_frame_is_reported(mask, encoded):
    _, keep, out = mask(encoded, "1-1.01", rule="upstream")
    assert keep[0, : math.ceil(SECONDS * RATE / FRAME)].all()
    assert "nothing is made anew" in out.ui["text"][0]


def test_silence_past_the_source_is_reported_where_no_region_covers_it(mask, small):
    padded = small.encode(music(1.0), 2.0)
    assert any("stays silent" in line for line in mask(padded, "0.2-0.5")[2].ui["text"])
    assert not any("stays silent" in line for line in mask(padded, "0.9-2")[2].ui["text"])


def test_the_report_names_rounded_and_asked_times(mask, encoded):
    text = mask(encoded, "1-2")[2].ui["text"][0]
    assert "0.929-2.043 s of 3 s (12 of 33 frames); asked for 1.000-2.000 s" in text


def test_the_picture_fills_what_is_made_anew(mask, small, comfyui, encoded):
    _, keep, out = mask(encoded, "1-2\n0-0.5", one_list_per_line=True)
    (shown,) = out.ui["images"]
    picture = small.module("nodes.bridge.work.mask_picture")
    with Image.open(comfyui / "temp" / shown["filename"]) as image:
        rows = image.convert("RGB")
    assert shown["type"] == "temp"
    assert rows.size == (picture.WIDTH, 2 * picture.HEIGHT + picture.GAP)
    fill = tuple(int(picture.MADE[i : i + 2], 16) for i in (1, 3, 5))
    for item in range(2):
        line = (item + 1) * picture.HEIGHT + item * picture.GAP - 4
        for x in range(2, picture.WIDTH, 7):
            frame = x / picture.WIDTH * SECONDS * RATE / FRAME
            if 0.1 < frame % 1 < 0.9:
                assert (rows.getpixel((x, line)) == fill) == (keep[item, int(frame)] < 0.5)


def test_stock_mask_nodes_are_converted_or_refused(mask, small, encoded):
    stock = importlib.import_module("nodes").SetLatentNoiseMask()
    frames = encoded["samples"].shape[-1]
    line = torch.zeros(1, 1, frames)
    line[..., 20:25] = 1
    four_d = stock.set_mask(encoded, line)[0]
    assert four_d["noise_mask"].ndim == 4
    latent, keep, _ = mask(four_d, "0.5-0.6")
    assert latent["noise_mask"].shape == (1, 1, frames)
    assert made(keep[0]) == [5, 6, *range(20, 25)]
    regions = latent["sa3_source"]["regions"][0]
    assert regions[1] == pytest.approx((20 * FRAME / RATE, 25 * FRAME / RATE))
    sampled = small.sample(four_d)  # SA3 Sampler takes it too
    assert sampled["samples"].shape == encoded["samples"].shape
    for shape in ((1, 64, 64), (1, frames, frames)):
        image = stock.set_mask(encoded, torch.ones(shape))[0]
        with pytest.raises(ValueError, match="use Inpaint Mask"):
            mask(image, "1-2")
        with pytest.raises(ValueError, match="use Inpaint Mask"):
            small.sample(image)
