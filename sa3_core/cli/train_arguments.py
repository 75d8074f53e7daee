"""Arguments of the commands that learn: pre-encode and train."""

import argparse

from ..adapters.rules import ADAPTER_TYPES
from ..datasets.encode import DEFAULT_SAMPLES
from ..training.presets import PRESETS
from ..training.settings import SCHEDULES
from .job_arguments import add_engine
from .values import parse_path, parse_seed


def add_pre_encode(parser: argparse.ArgumentParser) -> None:
    """Arguments of `sa3 pre-encode`, without model and place."""
    parser.add_argument("folder", type=parse_path, metavar="DIR", help="recordings with captions")
    parser.add_argument(
        "--out", required=True, type=parse_path, metavar="DIR", help="encoded clips"
    )
    parser.add_argument(
        "--sample-size",
        "--sample_size",
        type=int,
        default=DEFAULT_SAMPLES,
        metavar="N",
        help="most samples of a clip; longer recordings are cut into pieces (default: 285 s)",
    )
    parser.add_argument("--pad", action="store_true", help="store every clip at the full length")
    parser.add_argument(
        "--caption",
        default="",
        metavar="TEXT",
        help="where a recording has none; may hold {stem}, {folder}, {path}",
    )
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N", help="clips that are encoded at once"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say how many clips, seconds, bytes and how long"
    )
    parser.add_argument("--trigger", default="", metavar="WORD", help="in front of every caption")
    add_engine(parser)


def add_train(parser: argparse.ArgumentParser) -> None:
    """Arguments of `sa3 train`, without model and place."""
    add = parser.add_argument
    add(
        "--data",
        required=True,
        type=parse_path,
        metavar="LATENTS",
        help="folder of `sa3 pre-encode`",
    )
    add("--out", required=True, type=parse_path, metavar="DIR", help="gets LoRA, log and state")
    add(
        "--preset",
        choices=tuple(PRESETS),
        default="standard",
        help="what the flags below are where they are not given",
    )
    add("--text-encoder", metavar="DIR|FILE|NAME", help="T5Gemma (default: the model's)")
    add("--adapter-type", "--type", "--adapter_type", choices=ADAPTER_TYPES)
    add("--full", action="store_true", help="train all weights; gives a model folder, no LoRA")
    add("--rank", type=int, metavar="N")
    add("--alpha", type=float, metavar="X", help="default: the rank")
    add("--dropout", type=float, default=0.0, metavar="X")
    add("--include", nargs="+", default=[], metavar="PART", help="layers, e.g. 'layers[0-5]'")
    add("--exclude", nargs="+", default=[], metavar="PART")
    add("--steps", type=int, metavar="N")
    add("--rate", "--lr", type=float, metavar="X", help="learning rate")
    add("--schedule", choices=SCHEDULES, help="of the learning rate")
    add("--batch", "--batch-size", "--batch_size", type=int, metavar="N")
    add("--accumulate", type=int, metavar="N", help="parts a batch is computed in")
    add("--clip-norm", type=float, default=0.0, metavar="X", help="of a step's gradient; 0 = any")
    add("--crop", type=float, metavar="S", help="seconds; 0 = the longest clip")
    add("--seed", type=parse_seed, default=42, metavar="N")
    add("--save-every", "--checkpoint_every", type=int, default=500, metavar="N")
    add(
        "--tag-orders",
        type=int,
        default=1,
        metavar="N",
        help="orders in which a caption's tags are shown",
    )
    add("--hold-out", type=int, default=0, metavar="N", help="clips to validate on, never learnt")
    add("--keep", type=int, default=0, metavar="N", help="numbered checkpoints that stay; 0 = all")
    add(
        "--recompute",
        nargs="?",
        const="on",
        choices=("auto", "on", "off"),
        help="less memory, a third more time; auto: where memory needs it",
    )
    add("--demo-prompt", nargs="+", default=[], metavar="TEXT", help="made with each checkpoint")
    add("--demo-seconds", type=float, default=10.0, metavar="S")
    add("--demo-model", metavar="DIR|FILE|NAME", help="another to hear the LoRA on too")
    add("--autoencoder", metavar="DIR|FILE|NAME", help="SAME of the demos (default: the model's)")
    add("--start-from", metavar="F", help="a LoRA to begin with, of the same type, rank and layers")
    add("--dry-run", action="store_true", help="say what would be done and what it takes")
    add("--resume", action="store_true", help="go on with what --out holds")
    add("--allow-post-trained", action="store_true", help="train another model than a -base one")
