"""Prompts as typed and in the form of the training metadata; what is said of their length."""

from __future__ import annotations

import pytest

from sa3_core.errors import UnknownNameError
from sa3_core.text.prompts import KINDS, PromptParts, build_prompt, length_report, split_prompts


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


def test_the_catalogue_form_names_every_part():
    parts = PromptParts(
        genre="Electronic, House",
        instruments="Synthesizer, warm bass",
        mood="uplifting; bright",
        bpm=124,
        key="A minor",
        details="Builds up to a wide\n drop.",
        form="catalogue",
    )
    assert build_prompt(parts) == (
        "TrackType: Music | VocalType: Instrumental | Genre: Electronic, House | "
        "Instruments: Synthesizer, warm bass | Moods: uplifting, bright | BPM: 124 | "
        "Key: A minor | Builds up to a wide drop."
    )
    only = PromptParts("one-shot", instruments="kick drum", form="catalogue")
    assert build_prompt(only) == "TrackType: Instrument | One-shot | Instruments: kick drum"


def test_a_kind_or_form_that_is_not_known_is_named():
    for wrong, name in ((PromptParts(kind="song"), "song"), (PromptParts(form="poem"), "poem")):
        with pytest.raises(UnknownNameError, match=name):
            build_prompt(wrong)


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("warm pad", ["warm pad"]),
        ("warm pad\nrain, distant\r\n", ["warm pad", "rain, distant"]),
        ("\n  a \n\n b\n", ["a", "b"]),
        ("", [""]),
        (" \n\n", [""]),
    ],
)
def test_one_prompt_per_line(text: str, prompts: list[str]) -> None:
    assert split_prompts(text) == prompts


def test_the_report_counts_and_says_what_is_cut() -> None:
    assert length_report([12, 312, 256, 1, 0]) == [
        "prompt 1: 12 tokens",
        "prompt 2: 312 tokens, cut to the first 256",
        "prompt 3: 256 tokens",
        "prompt 4: 1 token",
        "prompt 5: 0 tokens",
    ]
    assert length_report([1]) == ["1 token"]
