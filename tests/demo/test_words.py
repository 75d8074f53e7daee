"""A text encoder with few words says which words of a prompt it passes over, and what it knows."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from demo_model.maker import sounds, text
from sa3_core.text.encoder import T5Gemma, load_t5gemma
from sa3_core.text.small_vocabulary import said_together

ENCODER = "t5gemma-b-b-ul2"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> T5Gemma:
    folder: Path = tmp_path_factory.mktemp("words") / ENCODER
    text.write_text_encoder(folder, text.words_of(["flute melody with drum beat, 108 BPM"]))
    return load_t5gemma(folder)


def test_words_that_it_does_not_know_are_named_with_those_it_knows(encoder):
    (prompt,) = encoder.tokenize(["Lo-fi trumpet solo with flute melody, 108 BPM, a trumpet"])
    assert prompt.note == f"Passed over: trumpet, solo. {sounds.KNOWS}"
    assert sounds.KNOWS.startswith("The demo model knows: flute, ")
    assert all(name in sounds.KNOWS for name in sounds.CLASSES)


@pytest.mark.parametrize("prompt", ["flute melody, 108 BPM", "a gentle flute", "", "flute!"])
def test_nothing_is_said_of_known_words_and_of_those_that_captions_pass_over(encoder, prompt):
    assert encoder.tokenize([prompt])[0].note == ""


def test_it_is_said_once(encoder, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            encoder.tokenize(["choir", "choir"])
    assert [r.message for r in caplog.records] == [f"Passed over: choir. {sounds.KNOWS}"]


def test_of_a_batch_every_word_is_named_once_and_what_it_knows_once(encoder, caplog):
    with caplog.at_level(logging.WARNING):
        prompts = encoder.tokenize(["Harp and oboe", "flute melody", "oboe, tuba", "Harp and oboe"])
    told = f"Passed over: harp, oboe, tuba. {sounds.KNOWS}"
    assert said_together(prompt.note for prompt in prompts) == [told]
    assert [r.message for r in caplog.records] == [told]
