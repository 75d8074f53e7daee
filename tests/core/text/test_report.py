"""Prompts as typed, and the report on their length."""

from __future__ import annotations

import pytest

from sa3_core.text.report import split_prompts, token_report
from sa3_core.text.tokenizers import TokenizedPrompt


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
    prompts = [
        TokenizedPrompt(tuple(range(12)), 12),
        TokenizedPrompt(tuple(range(256)), 312),
        TokenizedPrompt((7,), 1),
        TokenizedPrompt((), 0),
    ]
    assert token_report(prompts).splitlines() == [
        "prompt 1: 12 tokens",
        "prompt 2: 312 tokens, cut to 256",
        "prompt 3: 1 token",
        "prompt 4: 0 tokens",
    ]
