"""Files of the kinds that a models folder holds, with the keys of the real ones and no weights."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

DIT = "model.model.transformer.layers.0.to_local_embed.0.weight"
DURATION = "conditioner.conditioners.seconds_total.embedder.embedding.1.weight"
SAME = ("bottleneck.running_std", "decoder.layers.3.new_tokens", "encoder.layers.0.new_tokens")
FULL = (DIT, DURATION, *(f"pretransform.model.{key}" for key in SAME))
T5 = ("model.encoder.layers.0.pre_self_attn_layernorm.weight", "model.encoder.norm.weight")


def weights(path: Path, keys: tuple[str, ...]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: torch.zeros(1) for key in keys}, path)
    return path


def folder_model(folder: Path, keys: tuple[str, ...] = FULL, encoder: bool = False) -> Path:
    weights(folder / "model.safetensors", keys)
    (folder / "model_config.json").write_text("{}")
    if encoder:
        encoder_folder(folder / "t5gemma-b-b-ul2")
    return folder


def encoder_folder(folder: Path) -> Path:
    weights(folder / "model.safetensors", T5)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def without_autoencoder(source: Path, target: Path) -> Path:
    tensors = load_file(source / "model.safetensors")
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v for k, v in tensors.items() if not k.startswith("pretransform.")}, target)
    return target


def autoencoder_alone(source: Path, target: Path) -> Path:
    prefix = "pretransform.model."
    tensors = load_file(source / "model.safetensors")
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({k.removeprefix(prefix): v for k, v in tensors.items() if prefix in k}, target)
    return target
