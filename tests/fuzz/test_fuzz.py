"""Changed files of every kind end in an error of ours or in a right load: none raw, none silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import media, weights
from tests.fuzz.trial import Attempt, try_mutants

SOAK = 2000
KINDS: dict[str, tuple[Callable[[Path], Attempt], int]] = {  # how many in the default suite
    "checkpoint": (weights.single_checkpoint, 6),
    "model_config": (weights.model_config, 60),
    "lora": (weights.lora, 30),
    "text encoder": (weights.text_encoder, 8),
    "text encoder config": (weights.encoder_config, 15),
    "spiece": (weights.spiece, 40),
    "tokenizer folder": (weights.tokenizer_folder, 6),
    "npy latents": (media.npy_latents, 80),
    "safetensors latents": (media.safetensors_latents, 60),
    "encoded clip": (media.encoded_clip, 60),
    "captions": (media.captions, 80),
    "wav": (media.audio("wav-16"), 50),
    "flac": (media.audio("flac-16"), 50),
    "mp3": (media.audio("mp3-V0"), 30),
    "opus": (media.audio("opus-64k"), 30),
    "texts": (media.texts, 200),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_few_mutants(tmp_path: Path, name: str) -> None:
    make, count = KINDS[name]
    _check(name, make(tmp_path), count)


@pytest.mark.soak
@pytest.mark.parametrize("name", KINDS)
def test_thousands_of_mutants(tmp_path: Path, name: str, record_property) -> None:
    record_property("mutants", _check(name, KINDS[name][0](tmp_path), SOAK))


def _check(name: str, attempt: Attempt, count: int) -> str:
    counts = try_mutants(attempt, name, 0, count)
    faults = [f"raw {fault}" for fault in counts.raw] + [f"silent {f}" for f in counts.silent]
    assert not faults, f"{name}: {counts}\n" + "\n".join(faults[:20])
    assert counts.refused + counts.loaded == count
    assert counts.refused, "the mutants changed nothing"
    return str(counts)
