"""A small picture of a mask over its source, for the node, and the source for its editor."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from comfy_api.latest import ui
from PIL import Image, ImageDraw
from torch import Tensor

from ....sa3_core.audio.pictures import outline
from ....sa3_core.editing.masks import masked_spans
from ....sa3_core.editing.regions import Region
from ....sa3_core.editing.source_rider import ItemSource
from ..sockets.values import Latent, batch_of, durations, rider_of

WIDTH, HEIGHT, GAP = 512, 56, 4  # pixels of a row and between rows
MAX_ROWS = 8
COLUMNS = 2048  # of the outline that the region editor draws
BACKGROUND, WAVE, MADE, MADE_WAVE, ASKED = "#1d1f24", "#7d8899", "#5a3a1c", "#f0a050", "#ffffff"


def mask_picture(latent: Latent, keep: Tensor, asked: Sequence[Sequence[Region]]) -> dict[str, Any]:
    """Draw the first items' masks as a temporary image.

    What is made anew after rounding is filled, the regions asked for are bracketed above it.

    Returns:
        The `ui` value that shows it in the node.
    """
    seconds, waves = durations(latent), _peaks(latent)
    rows = min(len(asked), MAX_ROWS)
    image = Image.new("RGB", (WIDTH, rows * (HEIGHT + GAP) - GAP), "#000000")
    draw = ImageDraw.Draw(image)
    for row in range(rows):
        _draw_row(draw, row * (HEIGHT + GAP), keep[row], asked[row], seconds[row], waves[row])
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)
    return {"images": ui.PreviewImage(pixels[None]).as_dict()["images"]}


def source_outline(latent: Latent) -> dict[str, Any]:
    """The first item's source for the region editor, which knows a sound only from a file.

    Returns:
        A part of `ui`; nothing where there is no source.
    """
    rider = rider_of(latent)
    if rider is None:
        return {}
    source, seconds = rider.items_of(*batch_of(latent))[0], durations(latent)[0]
    low, high = outline(source.waveform[0].cpu(), _edges(source, seconds, COLUMNS))
    pairs = np.stack([low, high], axis=1).clip(-1, 1) * 127
    text = base64.b64encode(pairs.round().astype(np.int8).tobytes()).decode()
    return {"sa3_outline": [{"seconds": seconds, "pairs": text}]}


def _draw_row(
    draw: ImageDraw.ImageDraw,
    top: int,
    keep: Tensor,
    asked: Sequence[Region],
    seconds: float,
    peaks: list[float],
) -> None:
    scale = WIDTH / seconds
    middle = top + HEIGHT / 2
    draw.rectangle((0, top, WIDTH, top + HEIGHT), fill=BACKGROUND)
    made = np.zeros(WIDTH, dtype=bool)
    for start, end in masked_spans(keep, seconds):
        first, last = int(start * scale), max(int(end * scale), int(start * scale) + 1)
        made[first:last] = True
        draw.rectangle((first, top, last - 1, top + HEIGHT), fill=MADE)
    for x, peak in enumerate(peaks):
        half = max(0.5, min(peak, 1.0) * (HEIGHT / 2 - 6))
        draw.line((x, middle - half, x, middle + half), fill=MADE_WAVE if made[x] else WAVE)
    for start, end in asked:
        first, last = start * scale, min(end * scale, WIDTH - 1)
        draw.line((first, top + 6, first, top + 1, last, top + 1, last, top + 6), fill=ASKED)


def _peaks(latent: Latent) -> list[list[float]]:
    """Peak of each item's source per pixel column; flat where there is no source."""
    seconds, rider = durations(latent), rider_of(latent)
    if rider is None:
        return [[0.0] * WIDTH for _ in seconds]
    rows = []
    for item, source in enumerate(rider.items_of(*batch_of(latent))[:MAX_ROWS]):
        low, high = outline(source.waveform[0].cpu(), _edges(source, seconds[item], WIDTH))
        rows.append(np.maximum(high, -low).tolist())
    return rows


def _edges(source: ItemSource, seconds: float, columns: int) -> np.ndarray:
    """Samples between which the columns of a piece's picture lie."""
    scale = seconds / columns
    places = [round((source.origin + x * scale) * source.sample_rate) for x in range(columns + 1)]
    return np.clip(places, 0, source.waveform.shape[-1])
