"""Counts the tokens of a prompt for the browser, with a tokenizer that is on disk already."""

import asyncio
import json
import logging
import re
import threading
from pathlib import Path
from typing import Any

from aiohttp import web

from ....sa3_core.errors import SA3Error
from ....sa3_core.text.conditioning import TEXT_TOKENS
from ....sa3_core.text.prompts import split_prompts
from ....sa3_core.text.tokenizers import Tokenizer, estimate_tokens, open_tokenizer
from ..host.folders import library

log = logging.getLogger(__name__)

TOKENS_ROUTE = "/sa3/tokens"
MAX_CHARACTERS = 100_000
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_lock = threading.Lock()  # tokenizers are not made for several threads
_opened: dict[Path, Tokenizer] = {}


async def answer_tokens(request: web.Request) -> web.Response:
    """Takes {"text": str, "lines": bool}; names no file, so there is no path to check."""
    try:
        asked = json.loads((await request.read()).decode())  # JSON is UTF-8, whatever is stated
        text, lines = asked["text"], bool(asked.get("lines", False))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _refused("give a JSON object with a text, in UTF-8")
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        return _refused(f"text must be a string of at most {MAX_CHARACTERS} characters")
    if not text.isascii() and _SURROGATE.search(text):
        return _refused("text holds half of a character (a lone surrogate); write it whole")
    return web.json_response(await asyncio.to_thread(count_tokens, text, lines))


def _refused(why: str) -> web.Response:
    return web.json_response({"error": why}, status=400)


def count_tokens(text: str, lines: bool = False) -> dict[str, Any]:
    """Tokens of a prompt, or of every line that is not blank.

    Returns:
        `counts` (one per prompt, uncut), `limit` and `exact`: False where no tokenizer was found
        and words were counted instead.
    """
    prompts = split_prompts(text) if lines else [text]
    answer: dict[str, Any] = {"limit": TEXT_TOKENS, "exact": True}
    with _lock:
        tokenizer = _tokenizer()
        if tokenizer is not None:
            counts = [tokenizer.tokenize(prompt, TEXT_TOKENS).total for prompt in prompts]
            return {**answer, "counts": counts}
    return {**answer, "exact": False, "counts": [estimate_tokens(prompt) for prompt in prompts]}


def _tokenizer() -> Tokenizer | None:
    """That of the first T5Gemma in the library, opened once; None where there is none."""
    here = library()
    for name in here.text_encoders():
        path = here.resolve(name, "text_encoder")
        try:
            if path not in _opened:
                _opened[path] = open_tokenizer(path)
            return _opened[path]
        except SA3Error as error:
            log.info("Tokens are not counted with %s: %s", name, error)
    return None
