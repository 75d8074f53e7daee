"""Prompts in the form of the training metadata; tokenizers without weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from sa3_core.errors import CheckpointError
from sa3_core.text.prompts import KINDS, PromptParts, build_prompt, estimate_tokens, open_tokenizer


def test_music_has_its_tags_first():
    parts = PromptParts(
        genre="Electronic, House",
        instruments="Synthesizer, warm bass",
        mood="uplifting, bright",
        bpm=124,
        key="A minor",
        details="Builds up to a wide\n drop.",
    )
    assert build_prompt(parts) == (
        "TrackType: Music, VocalType: Instrumental, Genre: Electronic, Genre: House, "
        "Instruments: Synthesizer, warm bass. Uplifting, bright, 124 BPM, in A minor. "
        "Builds up to a wide drop."
    )


def test_a_sound_effect_names_its_sources_in_words():
    parts = PromptParts("sound effect", instruments="wooden drawer", mood="heavy")
    assert build_prompt(parts) == "TrackType: SFX. Wooden drawer, heavy."


@pytest.mark.parametrize("kind", KINDS)
def test_empty_parts_leave_the_tags(kind):
    assert build_prompt(PromptParts(kind)) == ", ".join(KINDS[kind]) + "."


def test_untidy_parts_are_tidied():
    parts = PromptParts("instrument", genre=" ,Jazz;;Jazz\n", bpm=92.5, details=" live. ")
    assert build_prompt(parts) == "TrackType: Instrument, Genre: Jazz. 92.5 BPM. live."


def test_a_folders_tokenizer_counts(tiny_s):
    tokenizer = open_tokenizer(tiny_s / "t5gemma-b-b-ul2")
    assert tokenizer.tokenize("warm pad", 256).total >= 2


def test_a_file_without_a_tokenizer_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        open_tokenizer(path)


def test_the_estimate_counts_words_and_marks():
    assert estimate_tokens("Genre: House, 124 BPM") == 6
    assert estimate_tokens("") == 0
