"""The measures of many clips in one table and one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from .clip import ClipMeasures
from .durations import CLASSES, DurationClasses

_SHOWN = (
    *("duration_error", "sound_end", "trailing_silence", "correlation", "level_difference"),
    *("mono_loss", "lufs", "true_peak", "clipped", "dc_offset", "not_finite", "seam_jump"),
    *("loop_jump", "bpm", "tempo_error", "key_fit", "bandwidth"),
)
_BINS, _PANEL, _GAP, _COLUMNS, _TEXT = 32, (220, 90), 16, 3, 14
_INK, _PAPER, _BAR = (40, 40, 48), (250, 250, 252), (74, 118, 200)


@dataclass(frozen=True)
class Row:
    """One measure over all clips that have it.

    Attributes:
        name: a field of ClipMeasures.
        count: clips that have it.
        mean: of it.
        low: 5th percentile.
        median: of it.
        high: 95th percentile.
        by_class: mean over the clips of each class of durations that have it.
    """

    name: str
    count: int
    mean: float
    low: float
    median: float
    high: float
    by_class: Mapping[str, float] = field(default_factory=dict)


def clips_by_class(
    clips: Sequence[ClipMeasures], classes: DurationClasses | None = None
) -> dict[str, list[ClipMeasures]]:
    """Clips of each class that has some, by the duration asked for, else by the file's."""
    classes = classes or DurationClasses()
    found: dict[str, list[ClipMeasures]] = {name: [] for name in CLASSES}
    for clip in clips:
        found[classes.of(clip.seconds - (clip.duration_error or 0.0))].append(clip)
    return {name: some for name, some in found.items() if some}


def summarise(clips: Sequence[ClipMeasures], classes: DurationClasses | None = None) -> list[Row]:
    """A row for every measure that some clip has."""
    rows = []
    groups = clips_by_class(clips, classes)
    for name in _SHOWN:
        values = _values(clips, name)
        if len(values):
            low, median, high = np.percentile(values, (5, 50, 95))
            shares = {group: _values(some, name) for group, some in groups.items()}
            means = {group: float(some.mean()) for group, some in shares.items() if len(some)}
            rows.append(Row(name, len(values), float(values.mean()), low, median, high, means))
    return rows


def table(clips: Sequence[ClipMeasures], classes: DurationClasses | None = None) -> str:
    """The rows as a Markdown table, with the number of clips above it.

    Where clips are of several classes of durations, each has a column with its mean.
    """
    groups = clips_by_class(clips, classes)
    shown = groups if len(groups) > 1 else {}
    head = ["measure", "clips", "mean", "5 %", "median", "95 %"]
    head += [f"{name} ({len(some)})" for name, some in shown.items()]
    lines = [f"{len(clips)} clips, {sum(clip.seconds for clip in clips):.1f} s", ""]
    lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in summarise(clips, classes):
        numbers = (row.mean, row.low, row.median, row.high)
        cells = [row.name, str(row.count), *(f"{number:.4g}" for number in numbers)]
        means = (row.by_class.get(name) for name in shown)
        cells += ["" if mean is None else f"{mean:.4g}" for mean in means]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(clips: Sequence[ClipMeasures]) -> Image.Image:
    """A histogram of every measure, in one RGB picture."""
    names = [row.name for row in summarise(clips)]
    lines = max(1, -(-len(names) // _COLUMNS))
    width = _COLUMNS * (_PANEL[0] + _GAP) + _GAP
    height = lines * (_PANEL[1] + 2 * _TEXT + _GAP) + _GAP
    image = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(image)
    for place, name in enumerate(names):
        row, column = divmod(place, _COLUMNS)
        left = _GAP + column * (_PANEL[0] + _GAP)
        top = _GAP + row * (_PANEL[1] + 2 * _TEXT + _GAP)
        _draw_histogram(draw, (left, top), name, _values(clips, name))
    return image


def _values(clips: Sequence[ClipMeasures], name: str) -> np.ndarray:
    """The finite values of a measure."""
    found = [getattr(clip, name) for clip in clips]
    numbers = np.array([value for value in found if value is not None], dtype=np.float64)
    return numbers[np.isfinite(numbers)]


def _draw_histogram(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, values: np.ndarray
) -> None:
    left, top = corner
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-12:  # a bar in the middle
        low, high = low - 0.5, high + 0.5
    counts, _ = np.histogram(values, bins=_BINS, range=(low, high))
    draw.text((left, top), f"{name} ({len(values)})", fill=_INK)
    base, step = top + _TEXT + _PANEL[1], _PANEL[0] / _BINS
    for number, count in enumerate(counts):
        if count:
            tall = max(2, round(_PANEL[1] * count / counts.max()))
            edges = (left + number * step, base - tall, left + (number + 1) * step - 1, base)
            draw.rectangle(edges, fill=_BAR)
    draw.line((left, base, left + _PANEL[0], base), fill=_INK)
    draw.text((left, base + 1), f"{values.min():.4g}", fill=_INK)
    text = f"{values.max():.4g}"
    draw.text((left + _PANEL[0] - draw.textlength(text), base + 1), text, fill=_INK)
