"""Draws what Look at Audio shows: waveform, spectrogram and numbers, a row per item."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ....sa3_core.audio.loudness import Loudness, measure
from ....sa3_core.audio.pictures import FLOOR_DB, LOWEST_HZ, coloured, spectrogram, wave_columns
from ....sa3_core.errors import AudioError
from ....sa3_core.files.whole_file import FreeName, whole_file, write_failure
from ..host.running import check_interrupted, intermediate
from ..sockets.riding import audio_batch
from .names import output_names
from .saving import graph_tags

NODE = "Look at Audio"
MAX_ITEMS = 16
# Pixels. The node shows the picture at about half its size (js/look.js), where text must be read.
WIDTH, WAVE, SPECTRUM = 1024, 144, 256
LEFT, CAPTION, AXIS, GAP = 64, 40, 36, 12
FONT, TICK = 24, 6
MOST_MARKS = 10  # on the time axis
ROW = CAPTION + WAVE + SPECTRUM + AXIS + GAP
BACKGROUND, FRAME, INK, FAINT = "#17181c", (29, 31, 36), "#e6e6e6", "#9aa3b2"
WAVE_COLOUR, CLIPPED = (122, 178, 255), (255, 72, 72)
MARKS_HZ = (100, 1000, 10_000)
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


@dataclass(frozen=True)
class Look:
    """What was seen: the picture as ComfyUI's IMAGE, its file as the node shows it, and numbers."""

    image: Tensor
    file: dict[str, str]
    notes: list[str]


def look(audio: Any, prefix: str | None, hidden: Any) -> Look:
    """Draw an AUDIO.

    Args:
        audio: AUDIO, or None (a video without sound): an error.
        prefix: folder and name in the output folder to keep the picture under; None = temporary.
        hidden: the node's hidden inputs (prompt and workflow).
    """
    batch = audio_batch(audio, NODE)
    waveform, rate = batch.waveform, batch.rate
    rows = min(len(waveform), MAX_ITEMS)
    image = Image.new("RGB", (LEFT + WIDTH, rows * ROW - GAP), BACKGROUND)
    notes = batch.notes
    for index in range(rows):
        check_interrupted()
        item = batch.item(index).cpu()
        found = measure(item, rate)
        name = f"item {index + 1}: " if len(waveform) > 1 else ""
        text = f"{name}{item.shape[-1] / rate:.2f} s, {describe(found)}"
        _draw_row(image, index * ROW, item, rate, text)
        notes.append(text)
    if len(waveform) > rows:
        notes.append(f"{len(waveform) - rows} more items are not shown.")
    file = _save(image, prefix, hidden)
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)[None]
    return Look(intermediate(pixels), file, notes)


def describe(found: Loudness) -> str:
    """Loudness and true peak as text."""
    if found.peak == 0:
        return "silence"
    text = f"{found.lufs:.1f} LUFS" if np.isfinite(found.lufs) else "below -70 LUFS"
    return f"{text}, true peak {found.dbtp:.1f} dBTP"


def _draw_row(image: Image.Image, top: int, item: Tensor, rate: int, text: str) -> None:
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(FONT)
    draw.text((LEFT, top + 4), text, fill=INK, font=font)
    wave_top = top + CAPTION
    image.paste(Image.fromarray(_wave(item)), (LEFT, wave_top))
    levels = 1 - spectrogram(item, rate, WIDTH, SPECTRUM) / FLOOR_DB
    spectrum_top = wave_top + WAVE
    image.paste(Image.fromarray(coloured(levels).numpy()), (LEFT, spectrum_top))
    for hertz in (mark for mark in MARKS_HZ if LOWEST_HZ < mark < rate / 2):
        share = np.log(rate / 2 / hertz) / np.log(rate / 2 / LOWEST_HZ)
        y = spectrum_top + round(share * SPECTRUM)
        draw.line((LEFT - TICK, y, LEFT, y), fill=FAINT)
        label = f"{hertz // 1000}k" if hertz >= 1000 else str(hertz)
        draw.text((LEFT - TICK - 4, y), label, fill=FAINT, font=font, anchor="rm")
    seconds = item.shape[-1] / rate
    step = next((s for s in STEPS if seconds / s <= MOST_MARKS), STEPS[-1])
    y = spectrum_top + SPECTRUM
    for mark in range(int(seconds / step) + 1):
        x = LEFT + mark * step / seconds * WIDTH
        draw.line((x, y, x, y + TICK), fill=FAINT)
        label = clock(mark * step)
        if x + 4 + draw.textlength(label, font) < LEFT + WIDTH:
            draw.text((x + 4, y + 3), label, fill=FAINT, font=font)


def clock(seconds: float) -> str:
    """A mark on the time axis: "0.5", "12", "1:30", "1:02:00"."""
    if seconds < 60:
        return f"{seconds:g}"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _wave(item: Tensor) -> np.ndarray:
    """Outline of [A, N] as RGB [WAVE, WIDTH, 3], red where it leaves full scale."""
    low, high = (values.numpy() for values in wave_columns(item, WIDTH))
    middle = (WAVE - 1) / 2
    y = np.arange(WAVE)[:, None]
    first = np.floor(middle - np.clip(high, -1, 1) * middle)
    last = np.ceil(middle - np.clip(low, -1, 1) * middle)
    clipped = (np.maximum(high, -low) > 1)[None, :, None]
    colour = np.where(clipped, np.array(CLIPPED, np.uint8), np.array(WAVE_COLOUR, np.uint8))
    inside = (y >= first) & (y <= last)
    return np.where(inside[..., None], colour, np.array(FRAME, np.uint8)).astype(np.uint8)


def _save(image: Image.Image, prefix: str | None, hidden: Any) -> dict[str, str]:
    """Write the picture as PNG; with a prefix into the output folder, the graph inside."""
    place: Path | FreeName
    if prefix is None:
        folder = Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        place, subfolder, kind = folder / f"sa3_look_{uuid.uuid4().hex}.png", "", "temp"
    else:
        names = output_names(prefix, hidden)
        place, subfolder, kind = names.item(0, ".png"), names.subfolder, "output"
    tags = PngInfo()
    for key, text in graph_tags(hidden).items():
        tags.add_text(key, text)
    try:
        with whole_file(place) as whole:
            image.save(whole.file, format="PNG", pnginfo=tags, compress_level=4)
    except OSError as error:
        raise AudioError(write_failure(place, error)) from error
    return {"filename": whole.path.name, "subfolder": subfolder, "type": kind}
