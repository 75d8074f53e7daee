"""Text encoder files for tests: folders and single files made out of the tiny checkpoint."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FOLDER = "t5gemma-b-b-ul2"
CORPUS = (
    "warm analog synth pad slow attack lush reverb 120 BPM",
    "footsteps on gravel distant thunder rain on a tin roof",
    "acoustic guitar fingerpicking melancholic piano ballad in C minor",
    "low quality noise distorted vocals choir bright dark airy",
)


@cache
def train_spiece() -> bytes:
    """A small SentencePiece model (BPE, 200 pieces, ids below the tiny vocabulary of 512)."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 8),
        model_writer=model,
        vocab_size=200,
        model_type="bpe",
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    return model.getvalue()


def spiece_tensor(model: bytes) -> Tensor:
    """The bytes as repackaged files hold them: [bytes] uint8."""
    return torch.frombuffer(bytearray(model), dtype=torch.uint8)


def encoder_tensors(checkpoint: Path) -> dict[str, Tensor]:
    """The tiny checkpoint's encoder tensors as its file names them."""
    return load_file(checkpoint / FOLDER / "model.safetensors")


def write_single_file(
    path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
) -> Path:
    """A repackaged single file: `tensors` in `dtype` and the SentencePiece model."""
    held = {key: tensor.to(dtype) for key, tensor in tensors.items()}
    save_file(held | {"spiece_model": spiece_tensor(train_spiece())}, path)
    return path


def copy_folder(
    checkpoint: Path, target: Path, edit: Callable[[dict[str, Any]], object] | None = None
) -> Path:
    """A copy of the text encoder folder, its config.json changed by `edit`."""
    shutil.copytree(checkpoint / FOLDER, target)
    if edit is not None:
        file = target / "config.json"
        config = json.loads(file.read_text())
        edit(config)
        file.write_text(json.dumps(config))
    return target
