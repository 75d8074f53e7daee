"""Pictures of the example workflows for the template browser: the sound, and what is made of it.

    python -m tests.tools.thumbnails [NAME ...]

The demo model makes the sounds, by the edits that the workflows are about. Above the waveform,
below the spectrogram; what the workflow makes is orange, what it keeps grey.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from demo_model.maker.lora import LORA_NAME
from demo_model.maker.sounds import FRAME, RATE
from sa3_core.audio.file import read_audio
from sa3_core.audio.pictures import FLOOR_DB, coloured, spectrogram, wave_columns
from sa3_core.audio.waveform import resample
from sa3_core.checkpoints.library import Library
from sa3_core.editing.edits import AudioToAudio, Continuation, Edit, Inpaint, Loop
from tests.demo.studio import Studio, sounding_frames
from tests.helpers.support import ROOT
from tests.tools.example_inputs import page_form, workflow_names
from tests.tools.example_sounds import LESSON, LESSON_BPM, LESSON_FORMAT

SIDE, WAVE, GAP = 440, 184, 8  # pixels
QUALITY = 60
TRIES = 6
BACKGROUND, KEPT, MADE, MADE_BACK = "#17181c", "#8f9bb0", "#f0a050", "#3d2a18"


Spans = tuple[tuple[float, float], ...]
"""What is made anew, as (start, end) in seconds."""

PARTS: Spans = ((0.8, 2), (3.2, 4.8), (4.8, 5.6), (7.2, 8))
MELODY, PAD, BEAT = "flute melody, 108 BPM", "warm synth pad, A minor chord", "drum beat, 108 BPM"
BELLS, GUITAR = "bells melody, 108 BPM", "guitar melody with drum beat, 108 BPM"


@dataclass(frozen=True, eq=False)
class Scene:
    """What a picture shows.

    Attributes:
        sounds: [1, N] each, one below the other.
        made: what is made anew in each.
    """

    sounds: tuple[Tensor, ...]
    made: Spans

    @property
    def seconds(self) -> float:
        """Of the longest sound."""
        return max(sound.shape[1] for sound in self.sounds) / RATE


@cache
def _models() -> tempfile.TemporaryDirectory[str]:
    """A folder of models for as long as the program runs."""
    return tempfile.TemporaryDirectory()


@cache
def studio() -> Studio:
    """The demo model."""
    return Studio(Library.from_models_dir(Path(_models().name)).resolve("demo", "model"))


def made_of(
    prompt: str, seconds: float | None = None, edit: Edit | None = None, lora: float = 0, **more
) -> Tensor:
    """A sound of the demo model, [2, N]: the first of some takes that lasts to its end.

    Args:
        prompt: what to make.
        seconds: how long; None = as the edit is.
        edit: of another sound.
        lora: strength of the demo model's LoRA.
        more: settings of the sampler.
    """
    file = (ROOT / "demo_model" / "loras" / LORA_NAME, lora) if lora else None
    lasts = () if seconds is None else (seconds,)
    for seed in range(3, 3 + TRIES):
        (audio,) = studio().make([prompt], lasts, (seed,), edit, file, **more)
        if sounding_frames(audio) > 0.95 * audio.shape[1] / FRAME:
            break
    return torch.from_numpy(audio)


def _several(*sounds: Tensor, made: Spans) -> Scene:
    return Scene(tuple(sound.mean(0, keepdim=True) for sound in sounds), made)


def _inpainted(parts: Spans) -> Scene:
    regions = [", ".join(f"{start:g}-{end:g}" for start, end in parts)]
    source = made_of(MELODY, 8)
    return _several(made_of(BELLS, edit=Inpaint(source, RATE, regions)), made=parts)


def _extended(*added: float) -> Scene:
    sound = made_of(GUITAR, 6)
    for seconds in added:
        edit = Continuation(sound, RATE, seconds, context_seconds=6.0)
        sound = made_of(GUITAR, edit=edit)
    return _several(sound, made=((6, 6 + sum(added)),))


def _changed() -> Scene:
    edit = AudioToAudio(made_of(MELODY, 8), RATE)
    return _several(made_of("organ melody, 108 BPM", edit=edit, noise_level=0.7), made=((0, 8),))


def _looped() -> Scene:
    edit = Loop(made_of(BEAT, 8), RATE, 6.0, seam_seconds=2.0)
    return _several(made_of(BEAT, edit=edit), made=((0, 1), (5, 6)))


def _learnt() -> Scene:
    """The clips of the lesson one after the other, and what is made then."""
    clips = [read_audio(LESSON / f"{bpm}{LESSON_FORMAT.suffix}")[0] for bpm in LESSON_BPM]
    lesson = resample(torch.cat(clips, dim=1), LESSON_FORMAT.rates[0], RATE)
    start = lesson.shape[1] / RATE
    return _several(torch.cat([lesson, made_of(MELODY, 6, lora=1)], 1), made=((start, start + 6),))


SCENES: dict[str, Callable[[], Scene]] = {
    "text_to_audio": lambda: _several(
        made_of("flute melody with drum beat, 108 BPM", 8), made=((0, 8),)
    ),
    "audio_to_audio": _changed,
    "inpaint_one_region": lambda: _inpainted(((3, 6),)),
    "inpaint_several_regions": lambda: _inpainted(PARTS),
    "continue_audio": lambda: _extended(6),
    "extend_long": lambda: _extended(5, 5, 5),
    "loop": _looped,
    "batch_of_prompts": lambda: _several(
        made_of(BEAT, 8), made_of(PAD, 5), made_of(BELLS, 7), made=((0, 8),)
    ),
    "two_loras": lambda: _several(made_of(MELODY, 8, lora=1), made=((0, 8),)),
    "train_lora": _learnt,
    "compare_lora": lambda: _several(
        *(made_of(MELODY, 6, lora=strength) for strength in (0, 0.5, 1)), made=((0, 6),)
    ),
}


def draw_thumbnail(name: str, path: Path) -> None:
    """Write a workflow's picture as JPEG."""
    scene = SCENES[name]()
    image = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    pieces = len(scene.sounds)
    height = (WAVE - GAP * (pieces - 1)) // pieces
    for piece, sound in enumerate(scene.sounds):
        width = round(SIDE * sound.shape[1] / RATE / scene.seconds)
        image.paste(_wave(sound, scene, width, height), (0, piece * (height + GAP)))
        if piece == 0:
            image.paste(_spectrum(sound, scene, width), (0, WAVE + GAP))
    image.save(path, quality=QUALITY, optimize=True)


def _columns(scene: Scene, width: int) -> list[tuple[int, int]]:
    scale = width / scene.seconds
    spans = [(round(start * scale), round(end * scale)) for start, end in scene.made]
    return [(first, min(last, width)) for first, last in spans]


def _wave(sound: Tensor, scene: Scene, width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), "#20232a")
    draw = ImageDraw.Draw(image)
    spans = _columns(scene, width)
    for first, last in spans:
        draw.rectangle((first, 0, last - 1, height), fill=MADE_BACK)
    low, high = (values.tolist() for values in wave_columns(sound, width))
    middle, scale = height / 2, height / 2 / max(1e-6, float(sound.abs().max())) * 0.9
    for x in range(width):
        is_made = any(first <= x < last for first, last in spans)
        line = (x, middle - high[x] * scale, x, middle - low[x] * scale)
        draw.line(line, fill=MADE if is_made else KEPT)
    return image


def _spectrum(sound: Tensor, scene: Scene, width: int) -> Image.Image:
    """What is kept is grey in it."""
    rows = SIDE - WAVE - GAP
    levels = 1 - spectrogram(sound, RATE, width, rows, highest=8000.0) / FLOOR_DB
    picture = coloured(torch.clamp(levels, 0, 1)).numpy()
    grey = np.repeat(picture.mean(axis=-1, keepdims=True) * 0.8, 3, axis=-1).astype(np.uint8)
    made = np.zeros(width, dtype=bool)
    for first, last in _columns(scene, width):
        made[first:last] = True
    return Image.fromarray(np.where(made[None, :, None], picture, grey))


def main(names: list[str]) -> int:
    for name in names or workflow_names():
        draw_thumbnail(name, page_form(name, ".jpg"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
