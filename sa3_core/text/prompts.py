"""Prompts as typed, in the form of the metadata the models were trained on, and their length.

Source: stable-audio-3:docs/guides/prompting.md (tags of the AudioSparx catalogue).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import UnknownNameError
from .conditioning import TEXT_TOKENS

# What the first tags of a prompt are, by the kind of sound.
KINDS: Mapping[str, tuple[str, ...]] = {
    "music": ("TrackType: Music", "VocalType: Instrumental"),
    "instrument": ("TrackType: Instrument",),
    "sound effect": ("TrackType: SFX",),
    "one-shot": ("TrackType: Instrument", "One-shot"),
}
FORMS = ("tags and words", "catalogue")  # of a prompt


@dataclass(frozen=True)
class PromptParts:
    """What a prompt is made of; empty parts are left out.

    Attributes:
        kind: a key of KINDS.
        genre: one or several, separated by commas.
        instruments: what plays, or what makes the sound; separated by commas.
        mood: words separated by commas.
        bpm: beats per minute; 0 = none.
        key: such as "A minor".
        details: free text at the end.
        form: one of FORMS.
    """

    kind: str = "music"
    genre: str = ""
    instruments: str = ""
    mood: str = ""
    bpm: float = 0.0
    key: str = ""
    details: str = ""
    form: str = FORMS[0]


def build_prompt(parts: PromptParts) -> str:
    """The prompt: tags first, then mood, tempo and key, then the details.

    A sound effect has no instruments in that catalogue: its sources are named in plain words.
    In the form `catalogue` every part is a field of its own: `Instruments: ... | Moods: ...`.

    Raises:
        UnknownNameError: a kind or form that is not known.
    """
    if parts.kind not in KINDS:
        raise UnknownNameError("kind of sound", parts.kind, KINDS)
    if parts.form not in FORMS:
        raise UnknownNameError("form of a prompt", parts.form, FORMS)
    return _as_catalogue(parts) if parts.form == "catalogue" else _as_sentences(parts)


def _as_catalogue(parts: PromptParts) -> str:
    """Fields with their names; what has none stands at the end."""
    fields = {
        "Genre": _words(parts.genre),
        "Instruments": _words(parts.instruments),
        "Moods": _words(parts.mood),
        "BPM": [f"{parts.bpm:g}"] if parts.bpm > 0 else [],
        "Key": _words(parts.key),
    }
    named = [f"{name}: {', '.join(values)}" for name, values in fields.items() if values]
    details = " ".join(parts.details.split())
    return " | ".join([*KINDS[parts.kind], *named, *([details] if details else [])])


def _as_sentences(parts: PromptParts) -> str:
    tags = [*KINDS[parts.kind], *(f"Genre: {genre}" for genre in _words(parts.genre))]
    sources = _words(parts.instruments)
    words = _words(parts.mood)
    if sources and parts.kind == "sound effect":
        words = [*sources, *words]
    elif sources:
        tags.append(f"Instruments: {', '.join(sources)}")
    if parts.bpm > 0:
        words.append(f"{parts.bpm:g} BPM")
    if parts.key.strip():
        words.append(f"in {parts.key.strip()}")
    details = " ".join(parts.details.split())
    sentences = [", ".join(tags), _capital(", ".join(words)), details]
    return ". ".join(part.rstrip(". ") for part in sentences if part.strip(". ")) + "."


def _words(text: str) -> list[str]:
    """Entries between commas, semicolons or new lines, repetitions dropped."""
    found = (word.strip() for word in re.split(r"[,;\n]", text))
    return list(dict.fromkeys(word for word in found if word))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def split_prompts(text: str) -> list[str]:
    """One prompt per line, outer spaces and blank lines dropped.

    Returns:
        At least one prompt; the empty one when `text` holds nothing else.
    """
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line] or [""]


def length_report(totals: Sequence[int]) -> list[str]:
    """One line per prompt, `prompt 2: 312 tokens, cut to the first 256`; a single one is not named.

    Args:
        totals: tokens of each prompt before cutting.
    """
    name = "prompt {}: " if len(totals) > 1 else ""
    return [name.format(number) + _length(total) for number, total in enumerate(totals, 1)]


def _length(total: int) -> str:
    if total > TEXT_TOKENS:
        return f"{total} tokens, cut to the first {TEXT_TOKENS}"
    return "1 token" if total == 1 else f"{total} tokens"
