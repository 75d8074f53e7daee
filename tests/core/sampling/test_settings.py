"""Sampling settings: automatic values, advice, and what is refused."""

from __future__ import annotations

import math

import pytest

from sa3_core.errors import InputError, UnknownNameError
from sa3_core.sampling.samplers import SAMPLERS
from sa3_core.sampling.schedule import SHIFTS
from sa3_core.sampling.settings import MAX_STEPS, OBJECTIVE_DEFAULTS, SampleSettings, advice


@pytest.mark.parametrize(
    ("objective", "sampler", "steps", "cfg"),
    [("rf_denoiser", "pingpong", 8, 1.0), ("rectified_flow", "euler", 50, 7.0)],
)
def test_autos_follow_the_objective(objective, sampler, steps, cfg):
    settings = SampleSettings().resolve(objective)
    assert (settings.sampler, settings.steps, settings.cfg) == (sampler, steps, cfg)
    assert settings.shift == "auto", "the model's config decides that one"
    assert settings.resolve(objective) == settings


def test_given_values_are_kept():
    given = SampleSettings(steps=3, sampler="dpmpp", cfg=2.5, apg=0.25, noise_level=0.5)
    for objective in ("rf_denoiser", "rectified_flow"):
        assert given.resolve(objective) == given


def test_an_unknown_objective_is_refused():
    with pytest.raises(InputError, match="objective is 'v'"):
        SampleSettings().resolve("v")


def test_guidance_holds_the_guidance_settings():
    settings = SampleSettings(
        cfg=3.0, apg=0.5, cfg_interval=(0.2, 0.9), norm_threshold=15.0, rescale=0.7
    )
    guidance = settings.guidance
    assert (guidance.cfg, guidance.apg, guidance.interval) == (3.0, 0.5, (0.2, 0.9))
    assert (guidance.norm_threshold, guidance.rescale) == (15.0, 0.7)
    assert not SampleSettings().resolve("rf_denoiser").guidance.active
    assert SampleSettings().resolve("rectified_flow").guidance.active


def test_every_registered_name_is_accepted():
    for name in SAMPLERS.names:
        assert SampleSettings(sampler=name).resolve("rf_denoiser").sampler == name
    for name in SHIFTS.names:
        assert SampleSettings(shift=name).shift == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", -1),
        ("steps", MAX_STEPS + 1),
        ("steps", 2.5),
        ("steps", True),
        ("cfg", math.nan),
        ("cfg", math.inf),
        ("cfg", -1.0),
        ("apg", -0.1),
        ("apg", 1.1),
        ("apg", math.nan),
        ("noise_level", -0.1),
        ("noise_level", 1.1),
        ("noise_level", math.nan),
        ("cfg_interval", (0.9, 0.2)),
        ("cfg_interval", (-0.1, 0.2)),
        ("cfg_interval", (0.0, math.nan)),
        ("norm_threshold", -1.0),
        ("norm_threshold", math.nan),
        ("rescale", 1.5),
        ("rescale", math.nan),
        ("noise_schedule", "sorted"),
        ("keep_mode", "soft"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"{name} is ") as refused:
        SampleSettings(**{name: value})
    assert refused.value.name == name


def test_unknown_names_explain_themselves():
    with pytest.raises(UnknownNameError, match="Did you mean 'euler'"):
        SampleSettings(sampler="eulr")
    with pytest.raises(UnknownNameError, match="logsnr"):
        SampleSettings(shift="cosine")


def test_advice_is_given_only_where_something_does_not_suit():
    auto = SampleSettings()
    for objective in ("rf_denoiser", "rectified_flow"):
        assert advice(auto.resolve(objective), objective, negative=False) == []

    def said(objective: str, negative: bool = False, **values) -> str:
        settings = SampleSettings(**values).resolve(objective)
        return " ".join(advice(settings, objective, negative))

    assert "no effect at cfg 1" in said("rf_denoiser", negative=True)
    assert "no effect" not in said("rectified_flow", negative=True)
    assert "no effect" in said("rectified_flow", negative=True, cfg=1.0)
    assert "base model at cfg 1" in said("rectified_flow", cfg=1.0)
    assert "more than 8 steps" in said("rectified_flow", steps=8)
    assert said("rectified_flow", steps=9) == ""
    assert "post-trained" in said("rf_denoiser", cfg=1.5)
    assert said("rf_denoiser", cfg=1.0) == ""


def test_objective_defaults() -> None:
    post = OBJECTIVE_DEFAULTS["rf_denoiser"]
    base = OBJECTIVE_DEFAULTS["rectified_flow"]
    assert (post.sampler, post.steps, post.cfg) == ("pingpong", 8, 1)
    assert (base.sampler, base.steps, base.cfg) == ("euler", 50, 7)
