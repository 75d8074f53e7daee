"""Noise: seeds, lengths, independence of the batch, interpolation between seeds."""

from __future__ import annotations

import argparse
import math

import pytest
import torch

from sa3_core.checks import check_seed, later_seed, read_seed
from sa3_core.cli.values import parse_fixed_seed, parse_seed
from sa3_core.codec.autoencode import decode_items
from sa3_core.errors import InputError
from sa3_core.pipeline import GenerateRequest
from sa3_core.sampling.noise import ItemNoise, SeedBlend, Seeds, parse_seeds, slerp
from sa3_core.training.trainer import TrainSettings

CPU = torch.device("cpu")
DECODED = (torch.nn.Module(), torch.zeros(1, 256, 4), (0.3,), None)


def test_first_draw_is_the_reference_noise(golden, rel_l2):
    head = golden("tiny-s/sampling")["noise.head"]  # channels 0-3 of noise.init
    assert rel_l2(ItemNoise(1234, [0], [82], 82)()[:, :4], head) <= 1e-6


def test_draws_go_on_from_one_generator_per_item():
    noise = ItemNoise(7, [0], [10], 10)
    generator = torch.Generator().manual_seed(7)
    for _ in range(3):
        assert torch.equal(noise()[0], torch.randn(256, 10, generator=generator))


def test_an_item_depends_on_its_seed_index_and_own_length_only():
    batch = ItemNoise(5, [0, 1, 4], [10, 6, 8], 14)
    for _ in range(2):
        out = batch()
        assert out.shape == (3, 256, 14)
        assert out.dtype == torch.float32
    for item, (index, frames) in enumerate(zip([0, 1, 4], [10, 6, 8], strict=True)):
        alone = ItemNoise(5, [index], [frames], frames)
        alone()
        assert torch.equal(alone()[0], out[item, :, :frames])
        assert not out[item, :, frames:].any()


def test_a_seed_list_names_each_items_seed():
    listed = ItemNoise([9, 3], [0, 1], [6, 6], 6)()
    assert torch.equal(listed[0], ItemNoise(9, [0], [6], 6)()[0])
    assert torch.equal(listed[1], ItemNoise(3, [0], [6], 6)()[0])
    assert torch.equal(ItemNoise(2, [1], [6], 6)()[0], listed[1]), "seed + index"


def test_seeds_wrap_at_two_to_the_63():
    big = ItemNoise(2**64 - 1, [1], [4], 4)()
    assert torch.equal(big, ItemNoise(0, [0], [4], 4)())
    assert torch.equal(ItemNoise(2**63, [0], [4], 4)(), ItemNoise(0, [0], [4], 4)())
    assert later_seed(2**64 - 1, 3) == 2  # windows and items of a batch count on
    assert torch.equal(ItemNoise(later_seed(2**64 - 1, 3), [0], [4], 4)(), big_plus_two())


def big_plus_two() -> torch.Tensor:
    return ItemNoise(2**64 - 1, [3], [4], 4)()


def test_only_the_low_32_bits_count():
    """As the seed's tooltip and the docs say; graphs that are saved keep their takes."""
    assert torch.equal(ItemNoise(2**32 + 7, [0], [4], 4)(), ItemNoise(7, [0], [4], 4)())


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "7", 10**30, None])
def test_every_way_in_refuses_what_the_widget_refuses(seed):
    said = "is no seed; a seed is a whole number from 0 to 18446744073709551615"
    ways = [
        lambda: check_seed(seed),
        lambda: ItemNoise(seed, [0], [4], 4),
        lambda: ItemNoise([0, seed], [0, 1], [4, 4], 4),
        lambda: Seeds(seed),
        lambda: Seeds([0, seed]),
        lambda: GenerateRequest(["x"], seeds=(0, seed)),
        lambda: GenerateRequest(["x"], variation=(seed, 0.5)),
        lambda: TrainSettings(seed=seed),
        lambda: next(decode_items(*DECODED, seed, device=CPU, dtype=torch.float32)),
    ]
    for number, way in enumerate(ways):
        if (seed is None and number in (3, 8)) or (seed == -1 and number == 5):
            continue  # no seed there means no noise; a request draws one for -1
        with pytest.raises(InputError, match=said):
            way()


@pytest.mark.parametrize("text", ["-1", "18446744073709551616", "1e3", "7.5", "\u0663"])
def test_seeds_as_text(text):
    with pytest.raises(InputError, match="is no seed"):
        parse_seeds(text)
    with pytest.raises(InputError, match="is no seed"):
        read_seed(text)
    with pytest.raises(argparse.ArgumentTypeError, match="is no seed"):
        parse_fixed_seed(text)
    if text != "-1":
        with pytest.raises(argparse.ArgumentTypeError, match="is no seed"):
            parse_seed(text)
    assert parse_seeds("0, 18446744073709551615") == [0, 2**64 - 1]


@pytest.mark.parametrize(
    ("seed", "index", "frames", "message"),
    [
        ([1, 2, 3], [0, 1], [4, 4], "3 seeds were given for 2 items"),
        (1, [0], [4, 4], "1 batch indices were given for 2 items"),
        (1.5, [0], [4], "1.5 is no seed; a seed is a whole number"),
        (1, [0], [9], "does not fit 8"),
        (1, [0], [0], "does not fit 8"),
    ],
)
def test_bad_input_is_named(seed, index, frames, message):
    with pytest.raises(InputError, match=message):
        ItemNoise(seed, index, frames, 8)


def pair(strength, total=40):
    frames = [40, 25]
    first = ItemNoise(1, [0, 1], frames, total)
    second = ItemNoise(50, [0, 1], frames, total)
    return SeedBlend(first, second, strength)


def test_blend_ends_are_the_seeds_themselves_at_every_draw():
    a, b = ItemNoise(1, [0, 1], [40, 25], 40), ItemNoise(50, [0, 1], [40, 25], 40)
    at_a, at_b = pair(0), pair(1.0)
    for _ in range(3):
        assert torch.equal(at_a(), a())
        assert torch.equal(at_b(), b())


@pytest.mark.parametrize("strength", [0.1, 0.3, 0.5, 0.8])
def test_blend_keeps_variance_and_turns_by_its_share_of_the_angle(strength):
    a, b, mixed = pair(0)(), pair(1)(), pair(strength)()
    for item, frames in enumerate([40, 25]):
        u, v, w = (x[item, :, :frames].double().flatten() for x in (a, b, mixed))
        assert float(w.std()) == pytest.approx(1, abs=0.02)
        cosine = torch.nn.functional.cosine_similarity
        angle = math.acos(float(cosine(u, v, 0)))
        assert math.acos(float(cosine(u, w, 0))) == pytest.approx(strength * angle, rel=0.02)
        assert not mixed[item, :, frames:].any()


def test_blend_does_not_depend_on_the_batch():
    together = pair(0.4, total=60)()
    alone = SeedBlend(ItemNoise(1, [1], [25], 25), ItemNoise(50, [1], [25], 25), 0.4)()
    assert torch.equal(alone[0], together[1, :, :25])


def test_blend_of_a_seed_with_itself_is_that_seed():
    a = ItemNoise(4, [0], [9], 9)()
    mixed = SeedBlend(ItemNoise(4, [0], [9], 9), ItemNoise(4, [0], [9], 9), 0.5)()
    torch.testing.assert_close(mixed, a)


def test_slerp_of_unit_axes_is_on_the_circle():
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    third = slerp(x, y, 1 / 3)
    assert third.tolist() == pytest.approx([math.cos(math.pi / 6), math.sin(math.pi / 6)])


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan])
def test_bad_blends_are_named(strength):
    with pytest.raises(InputError, match="between 0 and 1"):
        pair(strength)


def test_blends_of_other_lengths_are_refused():
    with pytest.raises(InputError, match="same lengths"):
        SeedBlend(ItemNoise(1, [0], [8], 8), ItemNoise(1, [0], [6], 8), 0.5)


def test_seeds_are_read_with_ranges_that_count_both_ends():
    assert parse_seeds("7, 9; 20-23\n4") == [7, 9, 20, 21, 22, 23, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no seed"),
        ("7, x", "'x' is no seed"),
        ("-3", "'-3' is no seed"),
        ("9-7", "must go up"),
        ("0-1000", "at most 1000 seeds"),
    ],
)
def test_seeds_that_cannot_be_read_are_named(text, message):
    with pytest.raises(InputError, match=message):
        parse_seeds(text)


@pytest.mark.parametrize("text", ["18446744073709551616", "9" * 30, "7, 18446744073709551616"])
def test_seeds_beyond_the_widgets_range_are_refused(text):
    with pytest.raises(InputError, match="whole number from 0 to 18446744073709551615"):
        parse_seeds(text)
    assert parse_seeds("18446744073709551615") == [2**64 - 1]


def test_a_request_draws_a_seed_for_minus_1():
    one, other = (GenerateRequest(["x"], seeds=(7, -1)).seeds for _ in range(2))
    assert one[0] == other[0] == 7
    assert 0 <= one[1] < 2**32
    assert one[1] != other[1]
    assert parse_seed(" -1 ") == -1
