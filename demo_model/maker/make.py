"""The stages of making the demo model, each kept in the work folder and found there again."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from sa3_core.files.published import CONFIG_FILE, TEXT_ENCODER_FOLDER, WEIGHTS_FILE

from . import layout, sounds, text
from .autoencoder import autoencoder_weights
from .codec import LinearCodec, fit_codec
from .start import DEPTH, MEMORY_TOKENS, WIDTH, write_start

CLIPS = 6000  # to train on
_CODEC_CLIPS, _CODEC_SEED = 400, 7
_CAPTIONS = 6000  # that the tokenizer's words are taken from
_FULL_PRECISION = ("inv_freq", "running_std")


def codec_in(work: Path) -> LinearCodec:
    """The codec of the work folder, fitted if it is not there yet."""
    path = work / "codec.safetensors"
    if path.is_file():
        return LinearCodec(**load_file(path))
    rng = np.random.default_rng(_CODEC_SEED)
    codec = fit_codec(sounds.make_clip(rng).audio for _ in range(_CODEC_CLIPS))
    work.mkdir(parents=True, exist_ok=True)
    tensors = {field.name: getattr(codec, field.name).contiguous() for field in fields(codec)}
    _save(path, tensors)
    return codec


def start_in(work: Path, codec: LinearCodec) -> Path:
    """The folder of the untrained model with its text encoder, written if it is not there yet."""
    folder = work / "start"
    if not (folder / CONFIG_FILE).is_file():
        rng = np.random.default_rng(_CODEC_SEED)
        captions = [sounds.make_caption(rng) for _ in range(_CAPTIONS)]
        words = [word for word in text.words_of(captions) if word not in sounds.FILLERS]
        text.write_text_encoder(folder / TEXT_ENCODER_FOLDER, words)
        write_start(folder, codec, autoencoder_weights(codec))
    return folder


def publish(trained: Path, start: Path, folder: Path, objective: str = layout.POST_TRAINED) -> Path:
    """Write the trained weights as a model in float16, with its text encoder.

    Args:
        trained: model folder, float32.
        start: folder with the text encoder.
        folder: to write; replaced if it is there.
        objective: that the model is declared to be trained for.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(start / TEXT_ENCODER_FOLDER, folder / TEXT_ENCODER_FOLDER)
    weights = load_file(trained / WEIGHTS_FILE)
    half = {
        name: value if name.endswith(_FULL_PRECISION) else value.to(torch.float16)
        for name, value in weights.items()
    }
    _save(folder / WEIGHTS_FILE, half)
    config = layout.model_config(WIDTH, DEPTH, MEMORY_TOKENS, objective)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1), encoding="utf-8")
    return folder


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write a file that appears when it is whole."""
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"format": "pt"})
    part.replace(path)
