"""The folder's tokenizer as it is, and what is counted and cut."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sa3_core.errors import CheckpointError
from sa3_core.text.tokenizers import (
    FolderTokenizer,
    SentencePieceTokenizer,
    estimate_tokens,
    open_tokenizer,
)
from tests.helpers.text_encoder_files import FOLDER, copy_folder, spiece_tensor, train_spiece

BOS, EOS = 2, 1


def _adding(tokenizer_file: Path, before: bool, after: bool) -> None:
    """Let the tokenizer put BOS before and EOS after each prompt."""
    settings = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    special = [{"SpecialToken": {"id": name, "type_id": 0}} for name in ("<bos>", "<eos>")]
    template = [{"Sequence": {"id": "A", "type_id": 0}}]
    settings["post_processor"] = {
        "type": "TemplateProcessing",
        "single": special[:1] * before + template + special[1:] * after,
        "pair": template,
        "special_tokens": {
            name: {"id": name, "ids": [number], "tokens": [name]}
            for name, number in (("<bos>", BOS), ("<eos>", EOS))
        },
    }
    tokenizer_file.write_text(json.dumps(settings), encoding="utf-8")


def test_the_folder_tokenizer_adds_nothing_by_itself(
    tiny_s: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="sa3_core"):
        tokenizer = FolderTokenizer(tiny_s / FOLDER)
    assert not caplog.records
    assert tokenizer.tokenize("", 256).ids == ()
    prompt = tokenizer.tokenize("warm synth pad", 2)
    assert len(prompt.ids) == 2
    assert prompt.total > 2
    assert prompt.is_cut
    assert not tokenizer.tokenize("warm", 256).is_cut


def test_tokens_that_the_folder_tokenizer_adds_are_kept(
    tiny_s: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = FolderTokenizer(tiny_s / FOLDER).tokenize("warm synth pad", 256)
    folder = copy_folder(tiny_s, tmp_path / "t5")
    _adding(folder / "tokenizer.json", before=True, after=True)
    with caplog.at_level(logging.INFO, logger="sa3_core"):
        tokenizer = FolderTokenizer(folder)
    assert "adds 2 token(s) of its own to each prompt (ids 2, 1)" in caplog.text
    assert tokenizer.tokenize("", 256).ids == (BOS, EOS)
    assert tokenizer.tokenize("warm synth pad", 256).ids == (BOS, *plain.ids, EOS)
    cut = tokenizer.tokenize("warm synth pad", 4)
    assert cut.ids == (BOS, *plain.ids[:2], EOS)  # as the library truncates
    assert cut.total == plain.total + 2


def test_a_folder_without_tokenizer_is_refused(tiny_s: Path, tmp_path: Path) -> None:
    folder = copy_folder(tiny_s, tmp_path / "t5")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        FolderTokenizer(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json or tokenizer\.model"):
        FolderTokenizer(folder)


def test_an_unknown_token_that_the_vocabulary_lacks(tiny_s: Path, tmp_path: Path) -> None:
    plain = FolderTokenizer(tiny_s / FOLDER).tokenize("warm synth pad", 256)
    folder = copy_folder(tiny_s, tmp_path / "t5")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"unk_token": ""}
    path.write_text(json.dumps(config), encoding="utf-8")
    assert FolderTokenizer(folder).tokenize("warm synth pad", 256) == plain
    path.write_text(json.dumps(config | {"knows": "It knows pads."}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer in .* cannot be read"):
        FolderTokenizer(folder)


def test_sentencepiece_is_cut_to_the_first_ids() -> None:
    tokenizer = SentencePieceTokenizer(spiece_tensor(train_spiece()), "file")
    whole = tokenizer.tokenize("warm analog synth pad", 256)
    cut = tokenizer.tokenize("warm analog synth pad", 3)
    assert cut.ids == whole.ids[:3]
    assert cut.total == whole.total == len(whole.ids)


def test_a_folders_tokenizer_counts(tiny_s):
    tokenizer = open_tokenizer(tiny_s / "t5gemma-b-b-ul2")
    assert tokenizer.tokenize("warm pad", 256).total >= 2


def test_a_file_without_a_tokenizer_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        open_tokenizer(path)


def test_the_estimate_counts_words_and_marks():
    assert estimate_tokens("Genre: House, 124 BPM") == 6
    assert estimate_tokens("") == 0
