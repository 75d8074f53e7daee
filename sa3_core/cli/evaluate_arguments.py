"""What `sa3 evaluate` can be given."""

import argparse

from ..evaluation.scores import METRICS
from ..measures.durations import CLASSES
from ..registry import AUTO
from .measure_arguments import add_class_bounds
from .values import parse_path

CONTENTS = ("music", "env")


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Options of `sa3 evaluate`."""
    reference = (
        "folder of real sounds (named as the generated ones, for kl-passt), or an .npz of one that "
        "was listened to before"
    )
    parser.add_argument("reference", type=parse_path, metavar="REFERENCE", help=reference)
    generated = "folder of generated sounds, or one that `sa3 generate --from` filled"
    parser.add_argument("generated", type=parse_path, metavar="GENERATED", help=generated)
    prompts = (
        "CSV with a column id (the file's name without its ending) and a column prompt, for clap; "
        "default: the job's rows, else captions beside the files"
    )
    parser.add_argument("--prompts", type=parse_path, metavar="CSV", help=prompts)
    metric = "only this score; may be given several times; default: all that can be had"
    parser.add_argument("--metric", action="append", choices=METRICS, default=[], help=metric)
    content = "what OpenL3 was trained on: music (default), or env for sounds of all kinds"
    parser.add_argument("--content", choices=CONTENTS, default=CONTENTS[0], help=content)
    one = "only clips of this class of durations, as asked for in a job's rows, else as they are"
    parser.add_argument("--duration-class", choices=CLASSES, help=one)
    add_class_bounds(parser)
    weights = (
        "folder with the extractors' weights; default: where published packages keep them. Nothing "
        "is downloaded"
    )
    parser.add_argument("--weights", type=parse_path, metavar="FOLDER", help=weights)
    device = "where to compute; auto: cuda, else mps, else cpu"
    parser.add_argument("--device", default=AUTO, metavar="auto|cpu|cuda|mps", help=device)
    keep = "keep what was heard of REFERENCE as an .npz, to be named in its place another time"
    parser.add_argument("--save-reference", type=parse_path, metavar="FILE", help=keep)
