"""`python dev.py bench [NAME ...]`: run the named benchmarks, or all."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

BENCHMARKS = ("lora",)


def main() -> None:
    """Run benchmarks and write each one's table to the output folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which ones: {', '.join(BENCHMARKS)}")
    parser.add_argument("--out", type=Path, default=Path("output"), help="folder for the tables")
    parser.add_argument("--quick", action="store_true", help="small shapes, for trying it out")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; known: {', '.join(BENCHMARKS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or BENCHMARKS:
        table = importlib.import_module(f"tests.benchmarks.{name}").run(options.quick)
        path = options.out / f"bench_{name}.md"
        path.write_text(table, encoding="utf-8")
        print(table)
        print(f"written to {path}")


if __name__ == "__main__":
    main()
