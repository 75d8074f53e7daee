"""Prompts in the form of the metadata that the models were trained on, and their length.

Source: stable-audio-3:docs/guides/prompting.md (tags of the AudioSparx catalogue).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from ..errors import CheckpointError
from .encoder_file import SPIECE
from .tokenizers import FolderTokenizer, SentencePieceTokenizer, Tokenizer

# What the first tags of a prompt are, by the kind of sound.
KINDS: Mapping[str, tuple[str, ...]] = {
    "music": ("TrackType: Music", "VocalType: Instrumental"),
    "instrument": ("TrackType: Instrument",),
    "sound effect": ("TrackType: SFX",),
}


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
    """

    kind: str = "music"
    genre: str = ""
    instruments: str = ""
    mood: str = ""
    bpm: float = 0.0
    key: str = ""
    details: str = ""


def build_prompt(parts: PromptParts) -> str:
    """The prompt: tags first, then mood, tempo and key, then the details.

    A sound effect has no instruments in that catalogue: its sources are named in plain words.
    """
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


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a T5Gemma without its weights.

    Args:
        path: the text encoder's folder, or its repackaged file.

    Raises:
        CheckpointError: there is none in it.
    """
    if path.is_dir():
        return FolderTokenizer(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            if SPIECE in file.keys():  # noqa: SIM118 - not a dict
                return SentencePieceTokenizer(file.get_tensor(SPIECE), path.name)
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read ({error}).") from error
    raise CheckpointError(
        f"{path.name} holds no tokenizer (tensor {SPIECE!r}). Use t5gemma_b_b_ul2.safetensors or "
        "the whole text encoder folder."
    )


def estimate_tokens(prompt: str) -> int:
    """About how many tokens a prompt has, without a tokenizer: words and marks."""
    return len(re.findall(r"\w+|[^\w\s]", prompt))
