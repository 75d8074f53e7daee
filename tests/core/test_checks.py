"""Checks of values: what passes, what is refused, and under which name it is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sa3_core.checks import (
    broadcast,
    check_count,
    check_interval,
    check_level,
    check_number,
    check_one_of,
    check_positive,
    check_seconds,
    check_whole,
    level_within,
)
from sa3_core.errors import InputError


def test_what_is_allowed_comes_back_as_a_plain_number():
    assert check_number("apg", 1, 0, 1) == 1.0
    assert check_number("cfg", np.float32(0.5), 0) == 0.5
    assert check_positive("bpm", np.int64(120)) == 120.0
    assert check_level(torch.tensor(0.25)) == 0.25
    assert check_seconds(120, 120) == 120.0
    assert check_interval("cfg_interval", (0, 1)) == (0.0, 1.0)
    assert check_one_of("rule", "inside", ("inside", "overlap")) == "inside"
    for value in (check_number("apg", 1, 0, 1), check_positive("bpm", 3), check_level(1)):
        assert type(value) is float
    whole = check_whole("steps", np.int64(8), 1, 100)
    assert (whole, type(whole)) == (8, int)
    assert check_whole("seed", -(2**70)) == -(2**70)


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (lambda: check_number("apg", 1.5, 0, 1), "apg is 1.5; it must be a number, between 0 and"),
        (lambda: check_number("cfg", math.inf, 0), "cfg is inf; it must be a number, 0 or more."),
        (lambda: check_number("cfg", -1, 0, note=" (0 = auto)"), r"0 or more \(0 = auto\)\.$"),
        (lambda: check_number("cfg", None, 0), "cfg is None"),
        (lambda: check_number("cfg", "3", 0), "cfg is '3'"),
        (lambda: check_positive("bpm", 0), "bpm is 0; it must be a number above 0"),
        (lambda: check_positive("bpm", math.nan), "bpm is nan"),
        (lambda: check_whole("steps", 0, 1), "steps is 0; it must be a whole number of 1 or more"),
        (lambda: check_whole("steps", 9, 0, 8), "steps is 9; it must be a whole number from 0 to"),
        (lambda: check_whole("steps", -1, 0, 8), "steps is -1"),
        (lambda: check_whole("steps", True, 0, 8), "steps is True"),
        (lambda: check_whole("seed", 1.0), r"seed is 1.0; it must be a whole number\.$"),
        (lambda: check_level(2), "noise_level is 2; it must be a number, between 0 and 1: 0 is"),
        (lambda: check_interval("cfg_interval", (0.9, 0.2)), "cfg_interval is 0.9 to 0.2"),
        (lambda: check_interval("cfg_interval", (-0.1, 0.2)), "cfg_interval is -0.1 to 0.2"),
        (lambda: check_interval("cfg_interval", (0.1, math.nan)), "cfg_interval is 0.1 to nan"),
        (lambda: check_seconds(121, 120), "seconds is 121; it must be more than 0 and at most 120"),
        (lambda: check_seconds(0, 120, "durations"), "durations is 0"),
        (lambda: check_one_of("rule", "out", ("a", "b")), "rule is 'out'; it must be one of a, b"),
    ],
)
def test_what_is_refused_is_named_with_what_is_allowed(check, sentence):
    with pytest.raises(InputError, match=sentence) as refused:
        check()
    assert str(refused.value).startswith(f"{refused.value.name} is ")


def test_a_face_gives_the_value_its_own_name():
    with pytest.raises(InputError) as refused:
        check_level(2)
    shown = refused.value.named(lambda name: f"--{name.replace('_', '-')}")
    assert str(shown).startswith("--noise-level is 2; it must be")
    whole = InputError("The latent has no frames.")
    assert whole.named(str.upper) is whole
    assert (str(whole), whole.name) == ("The latent has no frames.", None)


def test_counts_are_equal_or_one_for_all():
    assert broadcast(3, 3, "prompts") == [0, 1, 2]
    assert broadcast(1, 3, "prompts") == [0, 0, 0]
    with pytest.raises(InputError, match="2 prompts for 3 items"):
        broadcast(2, 3, "prompts")
    check_count("seeds", 3, 3)
    with pytest.raises(InputError, match="1 seeds were given for 3 items"):
        check_count("seeds", 1, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_interval_bounds_belong_to_it_at_the_levels_own_precision(dtype):
    levels = torch.tensor([0.0, 0.2, 0.3, 0.7, 0.71, 1.0], dtype=dtype)
    inside = level_within(levels, (0.2, 0.7))
    assert inside.tolist() == [False, True, True, True, False, False]
    assert level_within(levels, (0.0, 1.0)).all()
    assert level_within(levels.reshape(2, 3), (0.2, 0.7)).shape == (2, 3)
