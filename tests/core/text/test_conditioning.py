"""Encoded prompts: joining, selecting, padding, and what is refused."""

from __future__ import annotations

import pytest
import torch

from sa3_core.errors import InputError
from sa3_core.text.conditioning import TextConditioning


def _text(*lengths: int) -> TextConditioning:
    """Items of these token counts; every real token of item i has the value i + 1."""
    longest = max(1, *lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    values = torch.arange(1.0, len(lengths) + 1)[:, None] * mask
    return TextConditioning(values[..., None].expand(-1, -1, 768).clone(), mask)


def test_stack_pads_to_the_longest() -> None:
    text = TextConditioning.stack([_text(2, 1), _text(5), _text(0)])
    assert (text.batch, text.length) == (4, 5)
    assert text.mask.sum(1).tolist() == [2, 1, 5, 0]
    assert text.tokens[..., 0].sum(1).tolist() == [2.0, 2.0, 5.0, 0.0]
    assert text.tokens[~text.mask].abs().max() == 0


def test_select_repeats_and_reorders() -> None:
    text = _text(1, 2, 3).select([2, 0, 0, -1])
    assert text.mask.sum(1).tolist() == [3, 1, 1, 3]
    assert text.tokens[:, 0, 0].tolist() == [3.0, 1.0, 1.0, 3.0]
    with pytest.raises(InputError, match="no prompt 3; there are 3"):
        _text(1, 2, 3).select([0, 3])


def test_pad_never_cuts() -> None:
    text = _text(3).pad(4)
    assert text.mask.tolist() == [[True, True, True, False]]
    assert text.to("cpu").tokens.shape == (1, 4, 768)
    with pytest.raises(InputError, match="has 4 tokens; at most 3"):
        text.pad(3)


def test_joining_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="at least one prompt"):
        TextConditioning.stack([])


@pytest.mark.parametrize(
    ("tokens", "mask", "message"),
    [
        (torch.zeros(1, 4, 1024), torch.ones(1, 4).bool(), r"shape \(1, 4, 1024\)"),
        (torch.zeros(4, 768), torch.ones(4).bool(), r"shape \(4, 768\)"),
        (torch.zeros(1, 4, 768), torch.ones(1, 5).bool(), r"mask has shape \(1, 5\)"),
        (torch.zeros(1, 4, 768).half(), torch.ones(1, 4).bool(), r"torch\.float16"),
        (torch.zeros(1, 4, 768), torch.ones(1, 4), r"a torch\.float32 mask"),
    ],
)
def test_other_shapes_and_dtypes_are_refused(
    tokens: torch.Tensor, mask: torch.Tensor, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TextConditioning(tokens, mask)
