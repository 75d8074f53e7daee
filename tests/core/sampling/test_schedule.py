"""Schedules: the reference's numbers, the formulas, the bounded variant, bad input."""

from __future__ import annotations

import math

import pytest
import torch

from sa3_core.errors import ConfigError, InputError, UnknownNameError
from sa3_core.geometry import effective_frames
from sa3_core.sampling.schedule import (
    SHIFTS,
    FluxShift,
    FullShift,
    LogSNRShift,
    NoShift,
    build_sigmas,
    chosen_shift,
    parse_shift_options,
    shift_from_options,
)

T2A = ("t2a", "t2a_euler", "t2a_dpmpp", "t2a_rk4", "cfg", "cfg_null", "cfg_blend", "cfg_vanilla")
EDITS = ("a2a", "a2a_resample", "inpaint", "continuation", "batch")


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
@pytest.mark.parametrize("name", T2A + EDITS)
def test_sigmas_equal_the_reference(golden, rel_l2, variant, name):
    file = golden(f"{variant}/sampling")
    settings = file.settings[name]
    seconds = settings["duration"]
    seconds = seconds if isinstance(seconds, list) else [seconds]
    sigmas = build_sigmas(
        settings["steps"],
        shift_from_options(None),
        [effective_frames(item) for item in seconds],
        settings.get("init_noise_level", 1.0),
    )
    assert sigmas.dtype == torch.float32
    assert rel_l2(sigmas, file[f"{name}.sigmas"]) <= 1e-6


def test_eight_steps_of_the_default_are_the_published_ones():
    sigmas = build_sigmas(8, LogSNRShift(), [500])[0]
    published = [1, 0.9944, 0.9845, 0.9579, 0.8909, 0.7455, 0.5125, 0.2739, 0]
    assert sigmas.tolist() == pytest.approx(published, abs=6e-5)


def test_flux_follows_its_formula_between_and_outside_its_lengths():
    shift = FluxShift(alpha_min=1.0, alpha_max=4.0)
    half = torch.tensor([0.5])
    assert shift.apply(half, 10).item() == pytest.approx(0.5)
    assert shift.apply(half, 1024).item() == pytest.approx(2 / 3)  # halfway in ln: a = 2
    assert shift.apply(half, 99999).item() == pytest.approx(0.8)
    assert FluxShift().apply(half, 700).item() == pytest.approx(6.93 / 7.93)
    constant = FluxShift(min_length=500, max_length=500, alpha_min=2.0, alpha_max=2.0)
    assert constant.apply(half, 500).item() == pytest.approx(2 / 3)


def test_full_follows_its_formula_and_the_sine():
    t, length = 0.3, 1500
    mu = -(0.5 + 0.65 * (length - 256) / (4096 - 256))
    expected = 1 - math.exp(mu) / (math.exp(mu) + (1 / (1 - t) - 1))
    got = FullShift().apply(torch.tensor([t]), length).item()
    assert got == pytest.approx(expected, rel=1e-6)
    bent = FullShift(use_sine=True).apply(torch.tensor([t]), length).item()
    assert bent == pytest.approx(math.sin(expected * math.pi / 2), rel=1e-6)


def test_logsnr_rate_moves_the_noise_end_with_the_length():
    t = torch.tensor([0.75])
    shift = LogSNRShift(rate=1.0)
    start = -6.2 - 1.0  # one doubling of the anchor length
    expected = 1 / (1 + math.exp(2.0 - 0.75 * (2.0 - start)))
    assert shift.apply(t, 4000).item() == pytest.approx(expected, rel=1e-6)
    assert torch.equal(LogSNRShift().apply(t, 17), LogSNRShift().apply(t, 4000))


@pytest.mark.parametrize("name", SHIFTS.names)
@pytest.mark.parametrize("length", [1, 256, 1300, 4096, 9000])
def test_every_shift_keeps_the_ends_and_rises(name, length):
    row = SHIFTS[name]().apply(torch.linspace(0, 1, 101), length)
    assert row[0] == 0
    assert row[-1] == 1
    assert bool((row[1:] > row[:-1]).all())


def test_registry_holds_the_four_shifts_in_order():
    assert SHIFTS.names == ["logsnr", "flux", "full", "none", "identity"]
    assert SHIFTS["identity"] is SHIFTS["none"], "one shift under two names"
    with pytest.raises(UnknownNameError, match="logsnr"):
        SHIFTS["logsnrr"]


def test_each_item_has_its_own_schedule():
    shift = FluxShift(alpha_min=1.0, alpha_max=6.0)
    both = build_sigmas(6, shift, [300, 3000])
    assert both.shape == (2, 7)
    assert torch.equal(both[0], build_sigmas(6, shift, [300])[0])
    assert torch.equal(both[1], build_sigmas(6, shift, [3000])[0])
    assert not torch.equal(both[0], both[1])


def test_upstream_may_rise_above_the_level_and_bounded_does_not():
    upstream = build_sigmas(4, LogSNRShift(), [17], 0.7)[0]
    assert upstream[1] > upstream[0]
    bounded = build_sigmas(4, LogSNRShift(), [17], 0.7, bounded=True)[0]
    assert bounded[0] == pytest.approx(0.7)
    assert bool((bounded[1:] < bounded[:-1]).all())


@pytest.mark.parametrize("name", SHIFTS.names)
@pytest.mark.parametrize("level", [1e-4, 0.05, 0.1192, 0.12, 0.4, 0.7, 0.95, 0.9985, 0.99999])
@pytest.mark.parametrize("steps", [1, 2, 7, 50, 200])
def test_bounded_falls_strictly_from_the_level_to_zero(name, level, steps):
    row = build_sigmas(steps, SHIFTS[name](), [646], level, bounded=True)[0]
    assert row.shape == (steps + 1,)
    assert row[0] == torch.tensor(level)
    assert row[-1] == 0
    assert bool((row[1:] < row[:-1]).all())


def test_bounded_lies_on_the_full_schedule():
    shift, level = LogSNRShift(), 0.7455
    row = build_sigmas(5, shift, [100], level, bounded=True)[0]
    start = (2 + math.log(level / (1 - level))) / 8.2  # where the curve reaches the level
    grid = torch.linspace(start, 0, 6, dtype=torch.float64)
    assert row.tolist() == pytest.approx(shift.apply(grid, 100).tolist(), abs=1e-6)


def test_bounded_from_one_is_the_full_schedule_and_zero_stays_zero():
    full = build_sigmas(8, LogSNRShift(), [100])
    assert torch.equal(build_sigmas(8, LogSNRShift(), [100], 1.0, bounded=True), full)
    for bounded in (False, True):
        assert not build_sigmas(3, LogSNRShift(), [100], 0.0, bounded).any()


@pytest.mark.parametrize("steps", [0, -1, 2.5, True, "8", None, math.nan])
def test_bad_steps_are_named(steps):
    with pytest.raises(InputError, match="steps is"):
        build_sigmas(steps, LogSNRShift(), [10])


@pytest.mark.parametrize("level", [-0.1, 1.01, math.nan, math.inf, None])
def test_bad_levels_are_named(level):
    with pytest.raises(InputError, match="noise_level is"):
        build_sigmas(8, LogSNRShift(), [10], level)


def test_an_empty_piece_is_refused():
    with pytest.raises(InputError, match="0 latent frames"):
        build_sigmas(8, LogSNRShift(), [0])


def test_options_of_a_config_override_the_defaults():
    assert shift_from_options(None) == LogSNRShift()
    assert shift_from_options({"type": "logsnr", "rate": 1.0}) == LogSNRShift(rate=1.0)
    assert shift_from_options({"type": "full", "min_length": 128}) == FullShift(min_length=128)
    assert shift_from_options({"max_shift": 2.0}) == FullShift(max_shift=2.0)
    assert shift_from_options({"type": "none"}) == NoShift()
    assert shift_from_options({"type": "identity"}) == NoShift()
    assert shift_from_options({"type": "flux", "alpha_max": 3}) == FluxShift(alpha_max=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "cosine"}, "'cosine' is not implemented"),
        ({"type": 3}, "not implemented"),
        ({"type": "flux", "alfa": 1.0}, "no option 'alfa'"),
        ({"type": "none", "rate": 1.0}, "no option 'rate'"),
        ({"type": "flux", "alpha_min": 0}, "above 0"),
        ({"type": "flux", "alpha_min": "big"}, "must be a number"),
        ({"type": "logsnr", "rate": math.nan}, "must be a number"),
    ],
)
def test_options_that_are_not_implemented_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        shift_from_options(options)


# --- parameters that a user gives ---------------------------------------------------------------
def test_a_users_parameters_replace_the_shifts_and_with_auto_the_models_own():
    config = {"type": "logsnr", "rate": 1.0}
    assert chosen_shift("logsnr", {}, config) == LogSNRShift()
    assert chosen_shift("logsnr", {"logsnr_end": 3.0}, config) == LogSNRShift(logsnr_end=3.0)
    assert chosen_shift("auto", {}, config) == LogSNRShift(rate=1.0)
    assert chosen_shift("auto", {"anchor_length": 900.0}, config) == LogSNRShift(900.0, rate=1.0)
    assert chosen_shift("auto", {"rate": 0.5}, None) == LogSNRShift(rate=0.5)


def test_parameters_are_read_as_people_write_them():
    assert parse_shift_options("") == {}
    read = parse_shift_options(" rate = 0.5, anchor_length=1500;logsnr_end=-1\nanchor_logsnr=-6")
    assert read == {"rate": 0.5, "anchor_length": 1500, "logsnr_end": -1, "anchor_logsnr": -6}


@pytest.mark.parametrize("text", ["rate", "rate=", "=1", "rate=big", "rate=nan", "rate=0,5"])
def test_parameters_that_cannot_be_read_are_named(text):
    with pytest.raises(InputError, match=r"shift_options has '.*'; write NAME=NUMBER"):
        parse_shift_options(text)
    with pytest.raises(InputError, match="gives 'rate' twice"):
        parse_shift_options("rate=1 rate=2")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("flux", {"rate": 1.0}, "has no option 'rate'; its options: alpha_max"),
        ("none", {"rate": 1.0}, "has no option 'rate'"),
        ("auto", {"alpha_min": 2.0}, "'logsnr' has no option 'alpha_min'"),
        ("flux", {"alpha_min": 0.0}, "above 0"),
        ("flux", {"alpha_min": "big"}, "must be a number"),
    ],
)
def test_parameters_that_do_not_fit_are_named(name, options, message):
    with pytest.raises(InputError, match=message):
        chosen_shift(name, options, None)


@pytest.mark.parametrize(
    "shift",
    [
        LogSNRShift(logsnr_end=1e308, anchor_logsnr=-1e308),
        FullShift(base_shift=-1e308, max_shift=1e308),
        FullShift(base_shift=-1000.0, max_shift=-1000.0),
        FullShift(use_sine=True, base_shift=-800.0),
    ],
)
@pytest.mark.parametrize("bounded", [False, True])
def test_parameters_without_a_schedule_are_refused(shift, bounded):
    with pytest.raises(InputError, match=r"Shift\(.*gives no noise levels between 0 and 1"):
        build_sigmas(8, shift, [100], 0.7 if bounded else 1.0, bounded)
