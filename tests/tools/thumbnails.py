"""Pictures of the example workflows for the template browser: the sound, and what is made of it.

Above the waveform, below the spectrogram; what the workflow makes is orange, what it keeps grey.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sa3_core.audio.pictures import FLOOR_DB, coloured, spectrogram, wave_columns
from tests.tools.example_sounds import RATE, band, play

SIDE, WAVE, GAP = 600, 250, 10  # pixels
QUALITY = 60
BACKGROUND, KEPT, MADE, MADE_BACK = "#17181c", "#8f9bb0", "#f0a050", "#3d2a18"


@dataclass(frozen=True)
class Scene:
    """What a picture shows.

    Attributes:
        seconds: length of the piece.
        made: what is made anew, as (start, end) in seconds.
        pieces: how many items; each has a row.
        shift: semitones that the sound lies higher.
    """

    seconds: float
    made: tuple[tuple[float, float], ...]
    pieces: int = 1
    shift: float = 0.0


SCENES = {
    "text_to_audio": Scene(10, ((0, 10),)),
    "audio_to_audio": Scene(10, ((0, 10),), shift=5),
    "inpaint_one_region": Scene(10, ((4, 8),)),
    "inpaint_several_regions": Scene(10, ((1, 2.5), (4, 6), (6, 7.2), (9, 10))),
    "continue_audio": Scene(20, ((10, 20),)),
    "extend_long": Scene(40, ((10, 40),)),
    "loop": Scene(8, ((0, 1), (7, 8))),
    "batch_of_prompts": Scene(10, ((0, 10),), pieces=3),
    "two_loras": Scene(10, ((0, 10),), shift=-4),
}


def draw_thumbnail(name: str, path: Path) -> None:
    """Write a workflow's picture as JPEG."""
    scene = SCENES[name]
    image = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    height = (WAVE - GAP * (scene.pieces - 1)) // scene.pieces
    for piece in range(scene.pieces):
        # Pieces of a batch differ in pitch and length.
        seconds = scene.seconds * (1 - 0.3 * (piece % 2))
        sound = play(band(seconds, scene.shift + 3 * piece), seconds, RATE)
        width = round(SIDE * seconds / scene.seconds)
        top = piece * (height + GAP)
        image.paste(_wave(sound, scene, width, height), (0, top))
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
