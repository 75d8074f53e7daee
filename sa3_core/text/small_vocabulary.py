"""What a text encoder with few words says of prompts that use others.

Its tokenizer_config.json names what it knows (`knows`, a sentence) and which words it passes over
in silence (`ignores`). T5Gemma itself spells any word and has neither.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

WORD = r"\w+(?:-\w+)*"
_SAID = "Passed over: "


def word_note(folder: Path) -> Callable[[str], str] | None:
    """Of a tokenizer's folder: prompt -> what to tell of its unknown words, or "".

    None for a tokenizer that does not say what it knows.

    Raises:
        ValueError, OSError: its config or vocabulary cannot be read.
    """
    path = folder / "tokenizer_config.json"
    config: dict[str, Any] = json.loads(path.read_text("utf-8-sig")) if path.is_file() else {}
    knows = config.get("knows")
    if not isinstance(knows, str):
        return None
    vocabulary = json.loads((folder / "tokenizer.json").read_text("utf-8-sig"))["model"]["vocab"]
    passed = {*vocabulary, *config.get("ignores", ())}

    def note(prompt: str) -> str:
        words = dict.fromkeys(re.findall(WORD, prompt.lower()))
        unknown = [word for word in words if word not in passed]
        return f"{_SAID}{', '.join(unknown)}. {knows}" if unknown else ""

    return note


def said_together(notes: Iterable[str]) -> list[str]:
    """Notes of several prompts as one for each vocabulary: every word once, what is known once.

    Args:
        notes: as `word_note` makes them; empty ones count for nothing.
    """
    words_of: dict[str, dict[str, None]] = {}
    for note in filter(None, notes):
        words, _, knows = note.removeprefix(_SAID).partition(". ")
        words_of.setdefault(knows, {}).update(dict.fromkeys(words.split(", ")))
    return [f"{_SAID}{', '.join(words)}. {knows}" for knows, words in words_of.items()]
