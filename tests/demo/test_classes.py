"""The demo model plays what it is asked for, in every precision and with every sampler."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demo_model.maker import sounds
from sa3_core.sampling.samplers import SAMPLERS

from . import listening
from .studio import PROMPTS, SECONDS, Studio, level

TEMPO = ", 108 BPM"
SHARE = 0.9  # of the takes of each class that are heard as asked


def heard_as(studio: Studio, name: str, seeds: int, **more) -> float:
    """The share of takes that are heard as their class."""
    takes = studio.many(PROMPTS[name] + TEMPO, seeds, **more)
    return sum(listening.heard(audio) == name for audio in takes) / seeds


def test_the_judge_knows_clips_that_it_has_not_seen_with_hiss_and_without():
    rng = np.random.default_rng(1)
    for name in sounds.CLASSES:
        for hiss in (0.0, 0.03):
            audio = sounds.make_clip(rng, (name,), rng.uniform(2, 6)).audio
            noisy = audio + hiss * np.abs(audio).max() * rng.normal(size=audio.shape)
            assert listening.heard(noisy.astype(np.float32)) == name


def test_every_class_is_heard_in_nine_of_ten_takes(studio, seeds):
    """At least 90 % over all classes, and no class under 60 %; chance is 10 %.

    Measured over 20 takes: organ 80 % (else a guitar is heard), drum beat 95 %, the others all.
    """
    shares = {name: heard_as(studio, name, seeds) for name in sounds.CLASSES}
    assert sum(shares.values()) / len(shares) >= SHARE, shares
    assert min(shares.values()) >= 0.6, shares


def test_nothing_is_silent_clipped_or_not_a_number(studio):
    for name in sounds.CLASSES:
        for audio in studio.many(PROMPTS[name] + TEMPO, 2):
            assert np.isfinite(audio).all()
            assert level(audio) > -40, name
            assert np.abs(audio).max() < 1, name


def test_sides_are_where_they_belong(studio):
    """The hi-hat is to the right, the guitar to the left: 3 dB and 2 dB at least."""
    for hat, guitar in zip(
        studio.many(PROMPTS["hi-hat"] + TEMPO, 3),
        studio.many(PROMPTS["guitar"] + TEMPO, 3),
        strict=True,
    ):
        assert level(hat[0]) - level(hat[1]) < -3
        assert level(guitar[0]) - level(guitar[1]) > 2


@pytest.mark.parametrize("sampler", SAMPLERS.names)
def test_every_sampler_plays_the_class(studio, sampler):
    """Solvers of the flow with 12 steps; 4 of 5 classes at least."""
    names = ["flute", "bells", "kick drum", "organ", "bass"]
    takes = studio.make([PROMPTS[n] + TEMPO for n in names], sampler=sampler, steps=12)
    right = [listening.heard(audio) == name for name, audio in zip(names, takes, strict=True)]
    assert sum(right) >= 4, right


@pytest.mark.parametrize("kind", ["bf16", "fp16", "int8", "fp8_e4m3"])
def test_every_precision_plays_the_classes(demo_folder, studio, kind):
    """The same noise gives the same class as float32 in 9 of 10."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    loading = {"dtype": dtypes[kind]} if kind in dtypes else {"storage": kind}
    prompts = [PROMPTS[name] + TEMPO for name in sounds.CLASSES]
    low = [listening.heard(a) for a in Studio(demo_folder, **loading).make(prompts)]
    high = [listening.heard(a) for a in studio.make(prompts)]
    assert sum(a == b for a, b in zip(low, high, strict=True)) >= 9, (low, high)


def test_chunked_decoding_changes_nothing_that_is_heard(studio):
    whole = studio.make([PROMPTS["guitar"] + TEMPO], [9.0])[0]
    parts = studio.make([PROMPTS["guitar"] + TEMPO], [9.0], chunk=32)[0]
    assert level(whole - parts) - level(whole) < -80


def test_a_batch_plays_each_item_as_alone(studio):
    names = ["flute", "kick drum", "organ"]
    prompts, lengths = [PROMPTS[n] + TEMPO for n in names], [SECONDS, 2.0, 3.0]
    together = studio.make(prompts, lengths, [7, 8, 9])
    for row, audio in enumerate(together):
        alone = studio.make([prompts[row]], [lengths[row]], [7 + row])[0]
        assert audio.shape == alone.shape
        assert level(audio - alone) - level(alone) < -60


def test_words_that_it_does_not_know_do_not_derail_it(studio):
    """As asked by people who have not read what it knows; 4 of 5."""
    prompt = "A gentle dreamy flute, with lush reverb, in the style of a fairytale, 108 BPM"
    assert sum(listening.heard(a) == "flute" for a in studio.many(prompt, 5)) >= 4


def test_guidance_moves_towards_the_prompt_and_away_from_the_negative(base):
    """On the base twin: the likeness to the prompt's class against the negative's, 6 takes."""
    prompt, against = PROMPTS["flute"] + TEMPO, PROMPTS["bells"] + TEMPO

    def lead(**more) -> float:
        found = [listening.likeness(a) for a in base.many(prompt, 6, steps=16, **more)]
        return float(np.mean([one["flute"] - one["bells"] for one in found]))

    plain = lead(cfg=1.0)
    assert lead(cfg=3.0) >= plain - 0.02
    assert lead(cfg=3.0, negatives=[against]) >= plain - 0.02
    assert lead(cfg=3.0, negatives=[prompt]) <= lead(cfg=3.0, negatives=[against])
