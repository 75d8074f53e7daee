"""Prompts as a user types them, and what is said about their length."""

from collections.abc import Sequence

from .tokenizers import TokenizedPrompt


def split_prompts(text: str) -> list[str]:
    """One prompt per line, outer spaces and blank lines dropped.

    Returns:
        At least one prompt; the empty one when `text` holds nothing else.
    """
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line] or [""]


def token_report(tokenized: Sequence[TokenizedPrompt]) -> str:
    """One line per prompt: `prompt 1: 12 tokens`, `prompt 2: 312 tokens, cut to 256`."""
    return "\n".join(_report_line(number, item) for number, item in enumerate(tokenized, 1))


def _report_line(number: int, prompt: TokenizedPrompt) -> str:
    """The line for one prompt."""
    count = "1 token" if prompt.total == 1 else f"{prompt.total} tokens"
    cut = f", cut to {len(prompt.ids)}" if prompt.is_cut else ""
    return f"prompt {number}: {count}{cut}"
