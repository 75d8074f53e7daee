"""Pictures of the example workflows for the template browser: the sound, and what is made of it.

    python -m tests.tools.thumbnails [NAME ...]

The demo model makes the sounds, by the edits that the workflows are about. Above the waveform, below
the spectrogram; what the workflow makes is orange, what it keeps grey.
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
from sa3_core.audio.pictures import FLOOR_DB, coloured, spectrogram, wave_columns
from sa3_core.checkpoints.library import Library
from sa3_core.editing.edits import AudioToAudio, Continuation, Edit, Inpaint, Loop
from tests.demo.studio import Studio
from tests.helpers.support import ROOT
from tests.tools.example_inputs import page_form, workflow_names

RATE = 44100
SIDE, WAVE, GAP = 600, 250, 10  # pixels
QUALITY = 60
BACKGROUND, KEPT, MADE, MADE_BACK = "#17181c", "#8f9bb0", "#f0a050", "#3d2a18"


Spans = tuple[tuple[float, float], ...]
"""What is made anew, as (start, end) in seconds."""

PARTS: Spans = ((1, 2.5), (4, 6), (6, 7.2), (9, 10))
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
def studio() -> Studio:
    """The demo model."""
    with tempfile.TemporaryDirectory() as folder:
        return Studio(Library.from_models_dir(Path(folder)).resolve("demo", "model"))


def made_of(
    prompt: str, seconds: float | None = None, edit: Edit | None = None, lora: str = "", **more
) -> Tensor:
    """A sound of the demo model, [2, N]."""
    file = (ROOT / "demo_model" / "loras" / lora, 1.0) if lora else None
    lasts = () if seconds is None else (seconds,)
    return torch.from_numpy(studio().make([prompt], lasts, (3,), edit, file, **more)[0])


def _several(*sounds: Tensor, made: Spans) -> Scene:
    return Scene(tuple(sound.mean(0, keepdim=True) for sound in sounds), made)


def _inpainted(parts: Spans) -> Scene:
    regions = [", ".join(f"{start:g}-{end:g}" for start, end in parts)]
    source = made_of(MELODY, 10)
    return _several(made_of(BELLS, edit=Inpaint(source, RATE, regions)), made=parts)


def _extended(*added: float) -> Scene:
    sound = made_of(GUITAR, 10)
    for seconds in added:
        edit = Continuation(sound, RATE, seconds, context_seconds=8.0)
        sound = made_of(GUITAR, edit=edit)
    return _several(sound, made=((10, 10 + sum(added)),))


def _changed() -> Scene:
    edit = AudioToAudio(made_of(MELODY, 10), RATE)
    return _several(made_of("organ melody, 108 BPM", edit=edit, noise_level=0.7), made=((0, 10),))


def _looped() -> Scene:
    edit = Loop(made_of(BEAT, 10), RATE, 8.0, seam_seconds=2.0)
    return _several(made_of(BEAT, edit=edit), made=((0, 1), (7, 8)))


SCENES: dict[str, Callable[[], Scene]] = {
    "text_to_audio": lambda: _several(
        made_of("flute melody with drum beat, 108 BPM", 10), made=((0, 10),)
    ),
    "audio_to_audio": _changed,
    "inpaint_one_region": lambda: _inpainted(((4, 8),)),
    "inpaint_several_regions": lambda: _inpainted(PARTS),
    "continue_audio": lambda: _extended(10),
    "extend_long": lambda: _extended(10, 10, 10),
    "loop": _looped,
    "batch_of_prompts": lambda: _several(
        made_of(BEAT, 10), made_of(PAD, 7), made_of(BELLS, 9), made=((0, 10),)
    ),
    "two_loras": lambda: _several(made_of(MELODY, 10, lora=LORA_NAME), made=((0, 10),)),
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
