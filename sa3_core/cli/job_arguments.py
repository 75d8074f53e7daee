"""The arguments of commands that work through a manifest."""

import argparse
from collections.abc import Sequence
from typing import Any

from ..jobs.rules import Rule
from ..jobs.shards import ROWS_PER_SHARD
from .values import parse_path

PRE_ENCODE = "pre-encode"  # the job without a manifest
ENGINES = ("local", "ray")
FORMATS = ("flac", "wav", "mp3", "opus", "m4a")


def add_job(parser: argparse.ArgumentParser) -> None:
    """What goes with `--from`."""
    group = parser.add_argument_group(
        "many rows", "A row of the manifest is a clip; flags hold for what its cells leave open."
    )
    group.add_argument(
        "--from",
        dest="manifest",
        type=parse_path,
        metavar="FILE",
        help="manifest (.csv, .jsonl, .parquet) with a column per flag; --out is a folder then",
    )
    add_engine(group)
    group.add_argument(
        "--batch",
        type=_batch,
        default=1,
        metavar="N|auto",
        help="rows at once; 1 (default) is bit-equal for any number of workers; auto: what fits",
    )
    group.add_argument(
        "--format", choices=FORMATS, help="of the files (default: flac, 24 bit)", default=None
    )
    group.add_argument(
        "--shards",
        choices=("tar",),
        help=f"pack the files into tars of {ROWS_PER_SHARD} rows, as webdataset reads them",
    )
    group.add_argument("--resume", action="store_true", help="go on in a folder that holds results")


def add_engine(parser: argparse._ActionsContainer) -> None:
    """What runs the workers, and how many there are."""
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="what runs the workers: this machine (default), or Ray (needs the extra [ray]), "
        "started here or joined by $RAY_ADDRESS",
    )
    parser.add_argument(
        "--workers", type=_count, default=1, metavar="N", help="processes or actors (default: 1)"
    )
    parser.add_argument(
        "--gpus-per-worker",
        type=_share,
        metavar="X",
        help="of a Ray actor; 0.5 = two on a card (default: 1 where there is a card, else 0)",
    )
    parser.add_argument(
        "--threads-per-worker", type=_count, metavar="T", help="of the CPU, for each"
    )


def engine_rules(args: argparse.Namespace) -> list[Rule]:
    """What goes with an engine."""
    unshared = args.gpus_per_worker is not None and args.engine != "ray"
    return [(unshared, "--gpus-per-worker needs --engine ray")]


def job_rules(args: argparse.Namespace) -> list[Rule]:
    """What goes with `--from` and what does not, in `generate`."""
    if args.manifest is None:
        return _alone(args, ("model", "prompt"))
    single = ("prompt", "negative", "seconds", "seed", "region")
    many = [name for name in single if len(getattr(args, name) or ()) > 1]
    return [
        (many, f"--{many[0] if many else ''} takes one value with --from: it holds for all rows"),
        *_together(args, ("seeds", "one_list_per_line", "latents_out", "force", "compile")),
        (args.seed and min(args.seed) < 0, "--from takes no random --seed: rows have their own"),
    ]


def decode_rules(args: argparse.Namespace) -> list[Rule]:
    """The same in `decode`."""
    if args.manifest is None:
        told = "the following arguments are required: LATENTS, or --from"
        return [(args.latents is None, told), *_alone(args, ("model",))]
    given = args.latents is not None
    return [
        (given, "LATENTS does not go with --from: rows name theirs"),
        *_together(args, ("force",)),
    ]


def _alone(args: argparse.Namespace, required: Sequence[str]) -> list[Rule]:
    """Without a manifest: what is needed, and what is about many rows."""
    alone: dict[str, Any] = {"--resume": args.resume, "--format": args.format}
    alone |= {"--workers": args.workers != 1, "--batch": args.batch != 1}
    alone |= {"--threads-per-worker": args.threads_per_worker, "--shards": args.shards}
    alone |= {"--engine": args.engine != ENGINES[0]}
    alone |= {"--gpus-per-worker": args.gpus_per_worker is not None}
    missing = [f"--{name}" for name in required if getattr(args, name) is None]
    told = f"the following arguments are required: {', '.join(missing)}"
    return [(missing, told), *((given, f"{name} needs --from") for name, given in alone.items())]


def _together(args: argparse.Namespace, alone: Sequence[str]) -> list[Rule]:
    """With a manifest: flags that are about one clip, and those that need another."""
    given = [f"--{name.replace('_', '-')}" for name in alone if getattr(args, name)]
    return [(given, f"--from takes no {', '.join(given)}"), *engine_rules(args)]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number above 0")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 <= value <= 1 or (value > 1 and value.is_integer())):
        raise argparse.ArgumentTypeError(f"{text!r} must be within 0-1, or a whole number")
    return value


def _batch(text: str) -> int | None:
    """None = auto."""
    return None if text == "auto" else _count(text)
