"""The two tokenizers T5Gemma comes with: a Hugging Face folder, or a SentencePiece model.

The SentencePiece one adds neither BOS nor EOS; the folder's own is used as it is, and what it
adds by itself (a BOS, say) counts as tokens of the prompt, as upstream has it.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, uint8

from ..checks import MAX_CHARACTERS, check_entries, shown
from ..errors import CheckpointError, InputError
from ..files.published import TEXT_ENCODER_FILE, TEXT_ENCODER_FOLDER
from ..files.tensor_file import open_tensors, read_header
from .small_vocabulary import word_note

log = logging.getLogger(__name__)

SPIECE = "spiece_model"  # the tensor of repackaged files
_TRIAL = "warm pad, 120 BPM \u00e9"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")
_SPIECE_FILES = ("tokenizer.model", "spiece.model")  # SentencePiece models as plain files


@dataclass(frozen=True)
class TokenizedPrompt:
    """Token ids of one prompt.

    Attributes:
        ids: what is encoded, at most the maximum that was asked for.
        total: number of tokens before cutting.
        note: what to tell a person of words that the vocabulary does not hold; "" = nothing.
    """

    ids: tuple[int, ...]
    total: int
    note: str = ""

    @property
    def is_cut(self) -> bool:
        """Whether tokens were dropped."""
        return self.total > len(self.ids)


class Tokenizer(Protocol):
    """Turns prompts into token ids."""

    def tokenize(self, prompt: str, max_length: int) -> TokenizedPrompt:
        """Ids of one prompt, cut to `max_length`."""
        ...


class FolderTokenizer:
    """The tokenizer of a Hugging Face folder, read from local files only."""

    def __init__(self, folder: Path) -> None:
        """Read `tokenizer.json` (or `tokenizer.model`) and `tokenizer_config.json`.

        Raises:
            CheckpointError: the files are missing or cannot be read.
        """
        from transformers import AutoTokenizer

        if not any((folder / name).is_file() for name in TOKENIZER_FILES):
            raise CheckpointError(
                f"{folder} has no {' or '.join(TOKENIZER_FILES)}, so its text encoder cannot read "
                "prompts. Download the whole text encoder folder."
            )
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
            added = self._ids("")
            self._cut(_TRIAL, 2)  # wrong settings show only here
            self._words = word_note(folder)
            self._unknown = self._tokenizer.unk_token_id if self._words else None
        except Exception as error:  # the library raises bare Exception for damaged files
            raise CheckpointError(
                f"The tokenizer in {folder} cannot be read ({shown(error)}). Download the folder "
                "again."
            ) from error
        if added:
            log.info(
                "The tokenizer in %s adds %d token(s) of its own to each prompt (ids %s); the "
                "repackaged single-file text encoder adds none, so the two sound different.",
                folder,
                len(added),
                ", ".join(map(str, added)),
            )

    def _ids(self, prompt: str) -> list[int]:
        """All ids of a prompt."""
        return self._tokenizer(prompt, verbose=False)["input_ids"]

    def _cut(self, prompt: str, length: int) -> list[int]:
        return self._tokenizer(prompt, truncation=True, max_length=length)["input_ids"]

    def tokenize(self, prompt: str, max_length: int) -> TokenizedPrompt:
        """Ids of one prompt, cut by the tokenizer's own rule (an EOS of its own survives)."""
        ids = self._ids(prompt)
        total = len(ids)
        if total > max_length:
            ids = self._cut(prompt, max_length)
        note = self._words(prompt) if self._words and self._unknown in ids else ""
        return TokenizedPrompt(tuple(ids), total, note)


class SentencePieceTokenizer:
    """A SentencePiece model, as repackaged files carry it in a tensor."""

    def __init__(self, model: Tensor, source: str) -> None:
        """Read the model.

        Args:
            model: serialised SentencePiece model, [bytes] uint8.
            source: file name for messages.

        Raises:
            CheckpointError: the tensor holds no SentencePiece model.
        """
        from sentencepiece import SentencePieceProcessor

        if model.dtype != uint8 or model.dim() != 1:
            raise CheckpointError(
                f"{source}: spiece_model is {model.dtype} {tuple(model.shape)}; it must be the "
                "bytes of a SentencePiece model. Download the file again."
            )
        try:
            self._processor = SentencePieceProcessor(model_proto=model.cpu().numpy().tobytes())
        except RuntimeError as error:
            raise CheckpointError(
                f"{source}: spiece_model is no SentencePiece model ({error}). Download the file "
                "again."
            ) from error

    def tokenize(self, prompt: str, max_length: int) -> TokenizedPrompt:
        """The first `max_length` ids of one prompt, no BOS, no EOS."""
        ids = self._processor.encode(prompt, out_type=int, add_bos=False, add_eos=False)
        return TokenizedPrompt(tuple(ids[:max_length]), len(ids))


def find_tokenizer(encoder: Path) -> Path | None:
    """Where the tokenizer of a T5Gemma is: in its folder or file, else beside its file.

    Args:
        encoder: the text encoder's folder or file.

    Returns:
        A Hugging Face folder, a file with the tensor `spiece_model`, or a SentencePiece model.
    """
    places = [encoder]
    if not encoder.is_dir():
        if _holds_spiece(encoder):
            return encoder
        places = [encoder.parent, encoder.parent / TEXT_ENCODER_FOLDER]
    for place in places:
        if (place / TOKENIZER_FILES[0]).is_file():
            return place
        for name in _SPIECE_FILES:
            if (place / name).is_file():
                return place if (place / "tokenizer_config.json").is_file() else place / name
    packed = encoder.parent / TEXT_ENCODER_FILE
    return packed if encoder.is_file() and _holds_spiece(packed) else None


def _holds_spiece(file: Path) -> bool:
    """Whether a safetensors file carries a SentencePiece model."""
    try:
        return SPIECE in read_header(file)
    except CheckpointError:
        return False


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a T5Gemma without its weights.

    Args:
        path: the text encoder's folder or file.

    Raises:
        CheckpointError: there is none in it or beside it.
    """
    found = find_tokenizer(path) or (path if path.is_dir() else None)
    if found is None:
        if path.is_file():
            read_header(path)  # says what is wrong with a damaged file
        raise CheckpointError(
            f"{path.name} holds no {SPIECE}, and there is no tokenizer beside it, so it cannot "
            f"read prompts. Put tokenizer.json or tokenizer.model into its folder, or use the "
            f"repackaged {TEXT_ENCODER_FILE} or a whole {TEXT_ENCODER_FOLDER} folder."
        )
    if found.is_dir():
        return FolderTokenizer(found)
    try:
        if found.suffix == ".model":
            model = torch.frombuffer(bytearray(found.read_bytes()), dtype=uint8)
            return SentencePieceTokenizer(model, found.name)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{found.name} cannot be read ({error}).") from error
    with open_tensors(found) as file:
        return SentencePieceTokenizer(file.get(SPIECE), found.name)


def estimate_tokens(prompt: str) -> int:
    """About how many tokens a prompt has, without a tokenizer: words and marks."""
    return len(re.findall(r"\w+|[^\w\s]", prompt))


def check_prompts(prompts: Sequence[str]) -> None:
    """Raise InputError unless `prompts` is a non-empty sequence of well-formed strings."""
    if isinstance(prompts, str) or not prompts:
        raise InputError(f"prompts is {prompts!r}; it must be a list with at least one prompt.")
    check_entries("prompts", len(prompts))
    for number, prompt in enumerate(prompts, 1):
        if not isinstance(prompt, str):
            raise InputError(f"Prompt {number} is {prompt!r}; it must be text.")
        if len(prompt) > MAX_CHARACTERS:
            raise InputError(
                f"Prompt {number} has {len(prompt)} characters; at most {MAX_CHARACTERS} are read, "
                "and no more than its first 256 tokens count. Shorten it."
            )
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"Prompt {number} holds half a character at position {error.start} (a lone "
                "surrogate). Type the prompt again."
            ) from error
