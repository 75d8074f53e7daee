"""Draw the registry's icon and banner: a waveform of which one region is being made anew.

    python -m tests.tools.make_icon

Writes docs/images/icon.svg and docs/images/banner.svg.
"""

from __future__ import annotations

import math

from tests.helpers.support import ROOT

FOLDER = ROOT / "docs" / "images"
GROUND, KEPT, MADE, REGION = "#16161f", "#7aa7ff", "#ffb454", "#ffb45433"
SIZES = {"icon.svg": (400, 400, 17), "banner.svg": (1260, 540, 61)}  # width, height, bars


def level(place: float) -> float:
    """Height of the waveform, 0-1, at 0-1 of its length: two swells with a beat on top."""
    swell = 0.35 + 0.65 * math.sin(math.pi * place) ** 2
    beat = 0.55 + 0.45 * abs(math.sin(9.5 * math.pi * place + 0.4))
    return swell * beat


def draw(width: int, height: int, bars: int) -> str:
    """The picture as SVG, without text: fonts differ from machine to machine."""
    step = width * 0.84 / bars
    left, middle = (width - step * bars) / 2, height / 2
    first, last = round(bars * 0.53), round(bars * 0.82)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" rx="{height * 0.12:.0f}" fill="{GROUND}"/>',
        f'<rect x="{left + step * first:.1f}" y="{height * 0.1:.1f}" '
        f'width="{step * (last - first):.1f}" height="{height * 0.8:.1f}" '
        f'rx="{step * 0.3:.1f}" fill="{REGION}"/>',
    ]
    for bar in range(bars):
        tall = max(level((bar + 0.5) / bars) * height * 0.7, step * 0.6)
        lines.append(
            f'<rect x="{left + step * (bar + 0.2):.1f}" y="{middle - tall / 2:.1f}" '
            f'width="{step * 0.6:.1f}" height="{tall:.1f}" rx="{step * 0.3:.1f}" '
            f'fill="{MADE if first <= bar < last else KEPT}"/>'
        )
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, size in SIZES.items():
        (FOLDER / name).write_text(draw(*size), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
