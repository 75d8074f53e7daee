"""Counts of mutants per kind: `python -m tests.fuzz [COUNT] [KIND ...]`."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.test_fuzz import KINDS, SOAK
from tests.fuzz.trial import try_mutants


def main() -> None:
    """Print a line per kind, and below it the faults that were found most often."""
    logging.getLogger().addHandler(logging.NullHandler())  # warnings are counted, not shown
    count = int(sys.argv[1]) if len(sys.argv) > 1 else SOAK
    for name in sys.argv[2:] or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            counts = try_mutants(KINDS[name][0](Path(folder)), name, 0, count)
        sys.stdout.write(f"{name}: {counts} ({time.monotonic() - begin:.0f} s)\n")
        for sort, faults in (("raw", counts.raw), ("silent", counts.silent)):
            causes = Counter(fault.split(": ", 1)[1][:110] for fault in faults)
            for cause, times in causes.most_common(12):
                sys.stdout.write(f"    {times} x {sort} {cause}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
