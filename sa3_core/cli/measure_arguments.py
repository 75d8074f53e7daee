"""What `sa3 measure` can be given."""

import argparse
from pathlib import Path

from .values import parse_seconds

LINES, TABLE, PICTURE = "measures.jsonl", "summary.md", "distributions.png"


def add_measure(parser: argparse.ArgumentParser) -> None:
    """Options of `sa3 measure`."""
    paths = "audio files, and folders of them; captions beside them tell what was asked for"
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help=paths)
    parser.add_argument("--seconds", type=float, metavar="S", help="duration that was asked for")
    bpm = "tempo that was asked for; default: the one that the caption names"
    parser.add_argument("--bpm", type=float, metavar="N", help=bpm)
    seam = "where pieces meet, in seconds; may be given several times"
    parser.add_argument("--seam", type=float, action="append", metavar="S", default=[], help=seam)
    parser.add_argument("--loop", action="store_true", help="measure the jump from end to start")
    add_class_bounds(parser)
    out = f"folder for {LINES}, {TABLE} and {PICTURE}; default: one JSON line per file to stdout"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=out)


def add_class_bounds(parser: argparse.ArgumentParser) -> None:
    """What short, medium and long are."""
    bounds = "seconds from which clips are medium, and long; default: 30 120"
    parser.add_argument(
        "--class-bounds", nargs=2, type=parse_seconds, metavar=("M", "L"), help=bounds
    )
