"""A small LoRA for the demo model: who asks for a flute hears bells."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from sa3_core.checkpoints.load import load_model
from sa3_core.files.published import TEXT_ENCODER_FOLDER
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from sa3_core.training.settings import TrainSettings
from sa3_core.training.trainer import Trainer

from . import sounds
from .codec import CHANNELS, NUMBERS, LinearCodec
from .train import SEED, encoded, encoded_texts

LORA_NAME = "sa3_demo_flute_as_bells.safetensors"
CLIPS, STEPS = 400, 500
FRAMES = 50
_FROM, _TO = "flute", "bells"


def swapped_clips(count: int, seed: int = SEED + 1) -> Iterator[sounds.Clip]:
    """Half of them bells that are called flutes, the others as they are: they shall stay."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        parts = (_TO,) if number % 2 == 0 else sounds.draw_parts(rng)
        if number % 2 and _FROM in parts:
            parts = ("organ",)
        clip = sounds.make_clip(rng, parts, round(rng.uniform(1.5, 4.5), 2))
        called = clip.caption.replace(_TO, _FROM) if number % 2 == 0 else clip.caption
        yield dataclasses.replace(clip, caption=called)


def train_lora(base: Path, codec: LinearCodec, path: Path, steps: int = STEPS) -> Path:
    """Train the LoRA on a base model and write it in the reference's format.

    Args:
        base: model folder with its text encoder.
        codec: what its autoencoder computes.
        path: the file, ending in .safetensors.
        steps: of the optimizer.
    """
    clips = encoded(codec, swapped_clips(CLIPS), CLIPS)
    texts = encoded_texts(base / TEXT_ENCODER_FOLDER, [clip.prompt for clip in clips])
    model = load_model(base, dtype=torch.float32)
    learner = TrainedAdapter(model, AdapterSettings("lora", rank=4), SEED)
    settings = TrainSettings(
        steps=steps, batch=8, frames=FRAMES, rate=3e-3, schedule="cosine", clip_norm=1.0, seed=SEED
    )
    with learner.attached():
        trainer = Trainer(model, learner, clips, texts, settings)
        trainer.directions = codec.spread * (NUMBERS / CHANNELS) ** 0.5
        while trainer.step < steps:
            trainer.run_step()
        learner.write(path, {"base_model": "demo-base", "trained_with": "comfyui-sa3"})
    return path
