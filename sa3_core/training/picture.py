"""One picture of a run: loss and validation over the steps, and loss over noise levels."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import InputError
from ..files.whole_file import whole_file, write_failure
from .logs import LOG, VALIDATION, read_rows

PICTURE = "progress.png"
_SIZE, _MARGIN, _GAP = (960, 640), 64, 56
_GROUND, _INK, _GRID = (255, 255, 255), (40, 40, 40), (225, 225, 225)
_RAW, _SMOOTH, _HELD, _BAR = (190, 205, 225), (31, 90, 160), (200, 80, 20), (110, 150, 90)
_BINS = 10

Curve = tuple[np.ndarray, np.ndarray]


def draw_progress(folder: Path) -> Path | None:
    """Draw a run's logs into one PNG beside them; None before the first step.

    Raises:
        InputError: it cannot be written.
    """
    rows = read_rows(folder / LOG, ("step", "loss", "t", "items"))
    if not rows:
        return None
    steps, losses = (np.array([row[name][0] for row in rows]) for name in ("step", "loss"))
    validations = read_rows(folder / VALIDATION, ("step", "loss"))
    held = [(row["step"][0], row["loss"][0]) for row in validations]
    pairs = [pair for row in rows for pair in zip(row["t"], row["items"], strict=False)]
    levels, items = np.array(pairs).T
    image = Image.new("RGB", _SIZE, _GROUND)
    middle = _SIZE[1] * 5 // 8
    upper = _Panel(image, (_MARGIN, 40, _SIZE[0] - 24, middle - _GAP // 2))
    lower = _Panel(image, (_MARGIN, middle + _GAP // 2, _SIZE[0] - 24, _SIZE[1] - 40))
    curves: list[tuple[str, Curve, tuple[int, int, int]]] = [
        ("loss of each step", (steps, losses), _RAW),
        ("its running mean", (steps, _running_mean(losses)), _SMOOTH),
    ]
    if held:
        curves.append(("held-out clips", (np.array(held)[:, 0], np.array(held)[:, 1]), _HELD))
    upper.curves(curves, "step")
    lower.bars(_by_level(levels, items), "noise level t: mean loss of the last half of the run")
    return _write(image, folder / PICTURE)


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Exponential mean over about a fiftieth of the run, unbiased at its start."""
    share = 1 / max(2.0, len(values) / 50)
    out, mean, weight = np.empty(len(values)), 0.0, 0.0
    for place, value in enumerate(values):
        mean += share * (value - mean)
        weight += share * (1 - weight)
        out[place] = mean / weight
    return out


def _by_level(levels: np.ndarray, items: np.ndarray) -> list[float | None]:
    """Mean loss in ten equal ranges of t, of the last half; None where there was no item."""
    levels, items = levels[len(levels) // 2 :], items[len(items) // 2 :]
    bins = np.minimum((levels * _BINS).astype(int), _BINS - 1)
    return [
        float(items[bins == place].mean()) if (bins == place).any() else None
        for place in range(_BINS)
    ]


def _write(image: Image.Image, path: Path) -> Path:
    data = BytesIO()
    image.save(data, "PNG")
    try:
        with whole_file(path) as whole:
            whole.file.write(data.getvalue())
    except OSError as error:
        raise InputError(write_failure(path, error)) from error
    return path


class _Panel:
    """A frame with axes in a picture."""

    def __init__(self, image: Image.Image, box: tuple[int, int, int, int]) -> None:
        self._draw, self._box = ImageDraw.Draw(image), box
        self._font = ImageFont.load_default(13)

    def curves(self, curves: Sequence[tuple[str, Curve, tuple[int, int, int]]], label: str) -> None:
        """Curves over one axis, named above."""
        xs = np.concatenate([curve[0] for _, curve, _ in curves])
        ys = np.concatenate([curve[1] for _, curve, _ in curves])
        low, high = self._axis(float(np.quantile(ys, 0.0)), float(np.quantile(ys, 0.995)))
        first, last = float(xs.min()), max(float(xs.max()), float(xs.min()) + 1)
        left, top, right, bottom = self._box
        place = left
        for name, (x, y), colour in curves:
            across = left + (x - first) / (last - first) * (right - left)
            down = bottom - np.clip((y - low) / (high - low), 0, 1) * (bottom - top)
            points = list(zip(across.tolist(), down.tolist(), strict=True))
            if len(points) > 1:
                self._draw.line(points, fill=colour, width=1 if colour == _RAW else 2)
            if colour == _HELD or len(points) == 1:
                for px, py in points:
                    self._draw.ellipse((px - 3, py - 3, px + 3, py + 3), fill=colour)
            self._draw.text((place, top - 24), name, fill=colour, font=self._font)
            place += 28 + int(self._draw.textlength(name, self._font))
        self._draw.text((left, bottom + 6), f"{first:g}", fill=_INK, font=self._font)
        self._draw.text((right, bottom + 6), f"{label} {last:g}", _INK, self._font, "ra")

    def bars(self, values: Sequence[float | None], label: str) -> None:
        """Bars over 0 to 1."""
        known = [value for value in values if value is not None]
        low, high = self._axis(0.0, max(known))
        left, top, right, bottom = self._box
        width = (right - left) / len(values)
        for place, value in enumerate(values):
            x = left + place * width
            if value is not None:
                height = (value - low) / (high - low) * (bottom - top)
                box = (x + 4, bottom - height, x + width - 4, bottom)
                self._draw.rectangle(box, fill=_BAR)
            self._draw.text((x, bottom + 6), f"{place / len(values):g}", _INK, self._font)
        self._draw.text((left, top - 24), label, fill=_INK, font=self._font)

    def _axis(self, low: float, high: float) -> tuple[float, float]:
        """Frame, grid and numbers; the range that it shows."""
        high = high if high > low else low + max(abs(low), 1e-6)
        left, top, right, bottom = self._box
        for part in range(5):
            y = bottom - (bottom - top) * part / 4
            self._draw.line((left, y, right, y), fill=_GRID)
            number = f"{low + (high - low) * part / 4:.3g}"
            self._draw.text((left - 6, y - 7), number, _INK, self._font, "ra")
        self._draw.rectangle(self._box, outline=_INK)
        return low, high
