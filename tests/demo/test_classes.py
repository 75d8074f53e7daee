"""The demo model plays what it is asked for, in every precision and with every sampler."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demo_model.maker import sounds
from sa3_core.editing.edits import AudioToAudio
from sa3_core.sampling.samplers import SAMPLERS

from . import listening
from .studio import PROMPTS, SECONDS, CheckedStudio, Studio, level

TEMPO = ", 108 BPM"
ALL = [prompt + TEMPO for prompt in PROMPTS.values()]
SHARE = 0.9  # of the takes of each class that are heard as asked


def heard_as(studio: Studio, name: str, seeds: int, **more) -> float:
    """The share of takes that are heard as their class."""
    takes = studio.many(PROMPTS[name] + TEMPO, seeds, **more)
    return sum(listening.heard(audio) == name for audio in takes) / seeds


def test_the_judge_knows_clips_that_it_has_not_seen_with_hiss_and_in_part():
    """Whole, with hiss 30 dB below the peak, and two seconds out of their middle."""
    rng = np.random.default_rng(1)
    for name in sounds.CLASSES:
        audio = sounds.make_clip(rng, (name,), rng.uniform(4, 6)).audio
        noisy = audio + 0.03 * np.abs(audio).max() * rng.normal(size=audio.shape)
        part = audio[:, sounds.RATE : 3 * sounds.RATE]
        assert [listening.heard(a.astype(np.float32)) for a in (audio, noisy, part)] == [name] * 3


def test_every_class_is_heard_in_nine_of_ten_takes(studio, seeds):
    """90 % over all classes and of 20 takes of each (of five, four); chance is 10 %."""
    shares = {name: heard_as(studio, name, seeds) for name in sounds.CLASSES}
    assert sum(shares.values()) / len(shares) >= SHARE, shares
    assert min(shares.values()) >= min(SHARE, 1 - 1 / seeds), shares


@pytest.mark.parametrize("name", sounds.CHORDS)
def test_the_chord_that_was_asked_for_is_held(studio, name, seeds):
    """Nine of ten takes, chance is one in four. Measured: 10 of 10 of each of the four chords."""
    takes = studio.many(f"warm synth pad, {name} chord{TEMPO}", seeds, 2.0)
    assert sum(listening.chord(audio) == name for audio in takes) >= SHARE * seeds


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
    """Each solver with 12 steps: nine of the ten classes at least."""
    takes = studio.make(ALL, [3.0], headroom=1.0, sampler=sampler, steps=12)
    right = {n: listening.heard(audio) == n for n, audio in zip(PROMPTS, takes, strict=True)}
    assert sum(right.values()) >= 9, right


@pytest.mark.parametrize("kind", ["bf16", "fp16", "int8", "fp8_e4m3"])
def test_every_precision_plays_the_classes(demo_folder, kind):
    """Nine of the ten classes at least."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    loading = {"dtype": dtypes[kind]} if kind in dtypes else {"storage": kind}
    takes = CheckedStudio(demo_folder, **loading).make(ALL, [3.0], headroom=1.0)
    right = {n: listening.heard(audio) == n for n, audio in zip(PROMPTS, takes, strict=True)}
    assert sum(right.values()) >= 9, right


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


@pytest.mark.parametrize(("one", "other"), [("flute", "bells"), ("organ", "guitar")])
def test_guidance_leads_away_from_the_negative(base, one, other):
    """Both are asked for, one is refused, at cfg 3 on the base twin: three of four takes are less
    like what is refused than when the other is, and in the mean the other is what is heard."""
    both = f"{PROMPTS[one]} with {PROMPTS[other]}{TEMPO}"

    def leads(refused: str) -> list[float]:
        more = {"cfg": 3.0, "steps": 16, "negatives": [PROMPTS[refused] + TEMPO], "headroom": 1.0}
        found = [listening.likeness(a) for a in base.many(both, 4, 3.0, **more)]
        return [likeness[one] - likeness[other] for likeness in found]

    away_from_other, away_from_one = leads(other), leads(one)
    pairs = list(zip(away_from_other, away_from_one, strict=True))
    assert sum(a > b for a, b in pairs) >= 3, pairs
    assert np.mean(away_from_other) > 0 > np.mean(away_from_one), pairs


def test_guidance_leads_towards_the_prompt(base):
    """From bells that are half noise, to flutes: the more cfg, the more flute in the mean."""
    rng = np.random.default_rng(8)
    source = torch.from_numpy(sounds.make_clip(rng, ("bells",), 4.0, 108).audio)

    def lead(cfg: float) -> float:
        more = {"cfg": cfg, "steps": 16, "noise_level": 0.6, "headroom": 1.0}
        edit = AudioToAudio(source, sounds.RATE)
        takes = base.make([PROMPTS["flute"] + TEMPO] * 4, (), (1, 2, 3, 4), edit, **more)
        found = [listening.likeness(audio) for audio in takes]
        return float(np.mean([likeness["flute"] - likeness["bells"] for likeness in found]))

    weak, plain, strong = lead(0.3), lead(1.0), lead(3.0)
    assert weak + 0.1 < plain, (weak, plain, strong)
    assert plain - 0.02 < strong, (weak, plain, strong)
