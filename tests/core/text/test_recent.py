"""Prompts that were encoded before come back without the text encoder, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sa3_core.errors import CheckpointError
from sa3_core.pipeline import GenerateRequest, generate, load_pipeline
from sa3_core.sampling.settings import SampleSettings
from sa3_core.text.conditioning import TextConditioning
from sa3_core.text.encoder import T5Gemma, load_t5gemma
from sa3_core.text.recent import RecentPrompts

IDS = [[5, 6, 7], [], [9]]


@pytest.fixture
def encoder(tiny_s: Path) -> T5Gemma:
    return load_t5gemma(tiny_s / "t5gemma-b-b-ul2")


@pytest.fixture
def runs(encoder: T5Gemma, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every run of the encoder."""
    return counted(encoder, monkeypatch)


def counted(encoder: T5Gemma, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    run = encoder._run
    monkeypatch.setattr(
        encoder, "_run", lambda ids, mask: (seen.append(len(ids)), run(ids, mask))[1]
    )
    return seen


def test_the_same_ids_run_once(encoder: T5Gemma, runs: list[int]) -> None:
    first = encoder.encode_once(IDS)
    first.tokens.add_(1)  # whoever changes theirs changes nobody else's
    second = encoder.encode_once(IDS)
    assert runs == [2]
    assert torch.equal(second.tokens, encoder.encode_ids(IDS).tokens)
    assert torch.equal(second.mask, first.mask)
    encoder.encode_once([IDS[0]])
    assert runs == [2, 2, 1], "another batch is another run: it moves the last bit"


def test_changed_weights_run_again(encoder: T5Gemma, runs: list[int]) -> None:
    before = encoder.encode_once(IDS)
    layer = next(m for m in encoder.encoder.modules() if isinstance(m, torch.nn.Linear))
    layer.weight = torch.nn.Parameter(layer.weight.clone(), requires_grad=False)
    layer.weight.mul_(1.5)
    assert not torch.equal(encoder.encode_once(IDS).tokens, before.tokens)
    assert encoder.recall(IDS, state="patched") is None
    encoder.encode_once(IDS, "patched")
    assert encoder.recall(IDS, "patched") is not None
    assert runs == [2, 2, 2]


def test_a_changed_file_is_noticed_all_the_same(encoder: T5Gemma, monkeypatch) -> None:
    encoder.encode_once(IDS)

    def changed() -> None:
        raise CheckpointError("changed")

    monkeypatch.setattr(encoder, "check_files", changed)
    with pytest.raises(CheckpointError):
        encoder.encode_once(IDS)


def test_the_oldest_make_room() -> None:
    text = TextConditioning(torch.zeros(1, 4, 768), torch.ones(1, 4, dtype=torch.bool))
    recent = RecentPrompts(most=2.5 * text.tokens.nbytes)
    for key in "ab":
        recent.put(key, text)
    assert recent.get("a") is not None
    recent.put("c", text)
    assert [key for key in "abc" if recent.get(key)] == ["a", "c"]
    assert recent.size == 2 * text.tokens.nbytes
    recent.put("too large", TextConditioning.stack([text] * 3))
    assert recent.size == 0


def test_a_second_generation_skips_the_text_encoder(tiny_s: Path, monkeypatch) -> None:
    pipeline = load_pipeline(tiny_s)
    seen = counted(pipeline.text, monkeypatch)
    settings = SampleSettings(steps=1, cfg=2.0)
    request = GenerateRequest(["warm pad"], ["noise"], seconds=[0.2], settings=settings)
    takes = [generate(pipeline, request).takes[0].audio for _ in range(2)]
    assert seen == [1, 1], "the prompt and the negative, once"
    assert torch.equal(*takes)
