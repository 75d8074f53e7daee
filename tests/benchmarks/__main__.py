"""`python dev.py bench [NAME ...]`: run the named benchmarks, or all."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from tests.benchmarks.cases.options import BenchmarkError, Options

BENCHMARKS = (
    *("speed", "memory", "lora", "quality", "int8", "budget", "codec", "train", "encode", "checks"),
)
ASKED_FOR = ("card", "ratios", "scale")  # not among all: for a machine with a card, for CI, long
NAMES = (*BENCHMARKS, *ASKED_FOR)


def main() -> int:
    """Run benchmarks and write each one's table to the output folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which ones: {', '.join(NAMES)}")
    parser.add_argument("--out", type=Path, default=Path("output"), help="folder for the tables")
    parser.add_argument("--quick", action="store_true", help="small shapes, for trying it out")
    speed = parser.add_argument_group("speed and memory")
    speed.add_argument("--only", default="", metavar="A,B", help="parts, such as dit,same-s")
    speed.add_argument("--seconds", default="", metavar="A,B", help="lengths, such as 10,30")
    speed.add_argument("--rounds", type=int, help="of every row (default: each row's own number)")
    speed.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    speed.add_argument("--no-peers", action="store_true", help="measure this pack alone")
    speed.add_argument("--slow", action="store_true", help="also peers that take minutes")
    speed.add_argument("--reference", type=Path, metavar="PATH", help="a checkout of the original")
    parser.add_argument("--rows", type=int, metavar="N", help="of a job (scale)")
    args = parser.parse_args()
    unknown = set(args.names) - set(NAMES)
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; known: {', '.join(NAMES)}")
    args.out.mkdir(parents=True, exist_ok=True)
    only = tuple(name for name in args.only.split(",") if name)
    seconds = tuple(float(length) for length in args.seconds.split(",") if length)
    options = Options(
        quick=args.quick,
        out=args.out,
        only=only,
        seconds=seconds,
        rounds=args.rounds,
        rows=args.rows,
        device=args.device,
        peers=not args.no_peers,
        slow=args.slow,
        reference=args.reference,
    )
    failed = 0
    for name in args.names or BENCHMARKS:
        path = options.out / f"bench_{name}.md"
        try:
            table = importlib.import_module(f"tests.benchmarks.cases.{name}").run(options)
        except BenchmarkError as error:
            table, failed = error.table, 1
            print(f"{name}: {error}", file=sys.stderr)
        path.write_text(table, encoding="utf-8")
        print(table)
        print(f"written to {path}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
