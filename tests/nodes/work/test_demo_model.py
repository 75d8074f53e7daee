"""The demo model through the nodes: words and durations that it does not know."""

from __future__ import annotations

import pytest

from demo_model.maker import sounds
from sa3_core.checkpoints.library import Library
from tests.helpers import editing_support


@pytest.fixture(scope="module")
def demo(pack, tmp_path_factory) -> editing_support.Loaded:
    folder = Library.from_models_dir(tmp_path_factory.mktemp("models")).resolve("demo", "model")
    return editing_support.load(pack, folder)


def latent_of(demo: editing_support.Loaded, seconds: float):
    node = demo.module("nodes.latent").SA3EmptyLatent
    return node.execute(seconds=seconds, batch_size=1).args[0]


def test_what_it_knows_is_said_once_however_many_lines_use_other_words(demo):
    node = demo.module("nodes.text").SA3TextEncode
    lines = ["harp solo, 108 BPM", "flute melody", "tuba solo", "harp solo, 108 BPM"]
    said = "\n".join(node.execute(demo.clip, "\n".join(lines), True).ui["text"])
    assert said.count("The demo model knows: ") == 1
    assert f"Passed over: harp, solo, tuba. {sounds.KNOWS}" in said


def test_a_prompt_of_unknown_words_alone_is_no_error(demo):
    latent = demo.sample(latent_of(demo, 1.0), positive=demo.prompt("xylophone orchestra"))
    wave = demo.decode(latent)["waveform"]
    assert wave.isfinite().all()
    assert wave.shape[-1] == 44100


def test_the_longest_that_it_was_trained_on_is_the_published_maximum(demo):
    latent = demo.sample(latent_of(demo, sounds.LONGEST), steps=1)
    wave = demo.decode(latent)["waveform"]
    assert wave.shape[-1] == sounds.LONGEST * 44100
    assert wave.isfinite().all()


@pytest.mark.parametrize("seconds", [12.5, 120.0])
def test_longer_ones_are_refused_with_the_number(demo, seconds):
    with pytest.raises(ValueError, match=f"is {seconds}; .* at most {sounds.LONGEST:g} "):
        demo.sample(latent_of(demo, seconds), steps=1)
