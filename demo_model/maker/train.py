"""Training of the demo's transformer: phases of growing length with the project's own trainer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sa3_core.checkpoints.load import load_model
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.datasets.encoded import EncodedClip
from sa3_core.files.published import TEXT_ENCODER_FOLDER
from sa3_core.text.conditioning import TextConditioning
from sa3_core.text.encoder import load_t5gemma
from sa3_core.training.draws import DrawSettings
from sa3_core.training.settings import TrainSettings
from sa3_core.training.trainer import Trainer
from sa3_core.training.whole_model import TrainedModel

from . import sounds
from .codec import CHANNELS, NUMBERS, LinearCodec

log = logging.getLogger(__name__)

SEED = 20261125
HEADROOM = 6  # frames behind the longest clip of a phase, where silence is learnt
_SAVE_EVERY = 200
_TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class Phase:
    """A stretch of training.

    Attributes:
        name: of its state file.
        frames: latent frames of an item.
        batch: items of a step.
        steps: of the optimizer.
        rate: learning rate.
        schedule: of the rate.
        timesteps: how noise levels are drawn.
        coupled: noises go to the clips of the batch that they are near. Quick to begin with, but
            the noise then tells what the prompt should; without it the words count.
    """

    name: str
    frames: int
    batch: int
    steps: int
    rate: float
    schedule: str
    timesteps: str
    coupled: bool = False


PHASES = (
    Phase("short", 30, 32, 1500, 1e-3, "inverse", "uniform", coupled=True),
    Phase("words", 30, 32, 3500, 1e-3, "inverse", "uniform"),
    Phase("middle", 70, 16, 4000, 1e-3, "inverse", "uniform"),
    Phase("long", 138, 8, 3200, 5e-4, "inverse", "uniform"),
    Phase("fine", 138, 8, 1200, 1.5e-4, "cosine", "log_snr_uniform"),
)

OnStep = Callable[[str, int, int, float], None]
"""Called with phase, steps done, steps in all and the mean loss since the last call."""


def encoded_clips(codec: LinearCodec, count: int, seed: int = SEED) -> list[EncodedClip]:
    """Random clips as the trainer takes them."""
    rng = np.random.default_rng(seed)
    return encoded(codec, (sounds.make_clip(rng) for _ in range(count)), count)


def encoded(codec: LinearCodec, clips: Iterable[sounds.Clip], count: int) -> list[EncodedClip]:
    """`count` clips as the trainer takes them."""
    # One block for all: small tensors between the large temporaries of synthesis would keep the
    # heap from ever shrinking (2 GB per 250 clips).
    most = int(sounds.LONGEST * sounds.RATE / sounds.FRAME) + 1
    block, end = torch.empty(count * most, CHANNELS), 0
    made = []
    for number, clip in enumerate(clips):
        frames = clip.audio.shape[1] // sounds.FRAME
        latents = block[end : end + frames].T
        latents.copy_(codec.encode(clip.audio))
        made.append(EncodedClip(f"{number:05d}", latents, frames, clip.seconds, clip.caption))
        end += frames
    return made


def encoded_texts(folder: Path, captions: Sequence[str]) -> dict[str, TextConditioning]:
    """Every caption once, by the text encoder in `folder`."""
    encoder = load_t5gemma(folder)
    unique = list(dict.fromkeys(captions))
    texts: dict[str, TextConditioning] = {}
    for first in range(0, len(unique), _TEXTS_AT_ONCE):
        part = unique[first : first + _TEXTS_AT_ONCE]
        encoded = encoder.encode(part)
        texts |= {caption: encoded.select([row]) for row, caption in enumerate(part)}
    return texts


def train(
    start: Path,
    work: Path,
    codec: LinearCodec,
    clips: Sequence[EncodedClip],
    phases: Sequence[Phase] = PHASES,
    on_step: OnStep | None = None,
) -> Path:
    """Train all weights of the model in `start` through the phases; goes on where it was stopped.

    Args:
        start: model folder with its text encoder.
        work: folder of states; the result is `model` in it.
        codec: what the model's autoencoder computes.
        clips: to learn from.
        phases: one after the other.
        on_step: is told of progress.

    Returns:
        The trained model's folder.
    """
    work.mkdir(parents=True, exist_ok=True)
    texts = encoded_texts(start / TEXT_ENCODER_FOLDER, [clip.prompt for clip in clips])
    model = load_model(start, dtype=torch.float32)
    learner = TrainedModel(model, open_checkpoint(start))
    directions = codec.spread * (NUMBERS / CHANNELS) ** 0.5
    with learner.attached():
        for phase in phases:
            fitting = [clip for clip in clips if clip.valid <= phase.frames - HEADROOM]
            trainer = Trainer(model, learner, fitting, texts, _settings(phase))
            trainer.directions = directions
            _run(trainer, phase, work / f"{phase.name}.safetensors", on_step)
    result = work / learner.stem
    learner.write(result, {})
    return result


def _settings(phase: Phase) -> TrainSettings:
    return TrainSettings(
        steps=phase.steps,
        batch=phase.batch,
        frames=phase.frames,
        rate=phase.rate,
        schedule=phase.schedule,
        clip_norm=1.0,
        seed=SEED,
        coupled=phase.coupled,
        draws=DrawSettings(timesteps=phase.timesteps),
    )


def _run(trainer: Trainer, phase: Phase, state: Path, on_step: OnStep | None) -> None:
    if state.is_file():
        trainer.load_state(state)
    for loss in _losses(trainer, phase, state):
        if on_step is not None:
            on_step(phase.name, trainer.step, phase.steps, loss)


def _losses(trainer: Trainer, phase: Phase, state: Path) -> Iterator[float]:
    """The mean loss of every stretch between two saved states."""
    losses: list[float] = []
    begin = time.monotonic()
    while trainer.step < phase.steps:
        losses.append(trainer.run_step().loss)
        if trainer.step % _SAVE_EVERY == 0 or trainer.step == phase.steps:
            trainer.save_state(state)
            log.info("%d steps in %.0f s", len(losses), time.monotonic() - begin)
            yield sum(losses) / len(losses)
            losses, begin = [], time.monotonic()
