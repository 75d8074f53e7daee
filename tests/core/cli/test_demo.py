"""The demo model on the command line: found by its name wherever it is called from."""

from __future__ import annotations

import pytest

from demo_model.maker import sounds
from sa3_core.audio.file import read_audio
from tests.demo import listening


def test_generate_finds_it_by_name(sa3, tmp_path, monkeypatch):
    monkeypatch.setenv("SA3_MODELS", str(tmp_path / "models"))
    out = tmp_path / "organ.wav"
    made = ("--prompt", "organ melody, 108 BPM", "--seconds", 4, "--seed", 100, "--out", out)
    code, printed, errors = sa3("generate", "--model", "demo", *made)
    assert code == 0, errors
    assert printed == [str(out)]
    assert listening.heard(read_audio(out)[0].numpy()) == "organ"


def test_models_lists_it_as_brought_along(sa3, tmp_path):
    code, printed, _ = sa3("models", "--models-dir", tmp_path)
    assert code == 0
    rows = [line.split(maxsplit=2) for line in printed if line.startswith("demo")]
    assert [row[:1] for row in rows] == [["demo"], ["demo-base"], ["demo"]]
    assert all(row[2].strip() == "comes with the program" for row in rows)


@pytest.fixture
def one_step(sa3, tmp_path, monkeypatch):
    """Runs `sa3 generate --model demo` with one step."""
    monkeypatch.setenv("SA3_MODELS", str(tmp_path / "models"))
    out = ("--out", tmp_path / "made.wav", "--steps", 1)
    return lambda *more: sa3("generate", "--model", "demo", *out, *more)


def test_other_words_are_no_error_and_what_it_knows_is_said_once(one_step):
    prompts = ("--prompt", "harp solo", "--prompt", "tuba solo")
    code, printed, errors = one_step(*prompts, "--seconds", 1)
    assert code == 0, errors
    assert len(printed) == 2
    assert errors.count("The demo model knows: ") == 1
    assert f"Passed over: harp, solo, tuba. {sounds.KNOWS}" in errors


def test_the_published_maximum_works_and_more_is_refused_with_the_number(one_step, tmp_path):
    prompt = ("--prompt", "flute melody")
    code, _, errors = one_step(*prompt, "--seconds", 12)
    assert code == 0, errors
    assert read_audio(tmp_path / "made.wav")[0].shape[-1] == 12 * 44100
    code, _, errors = one_step(*prompt, "--seconds", 13, "--force")
    assert code != 0
    assert "--seconds is 13.0; it must be more than 0 and at most 12 " in errors
