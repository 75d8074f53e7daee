"""`python -m tests.mutations [NAME ...]`: put each fault in, run the tests that listen, say which
of them noticed. Exit status 1 where a fault went unnoticed, or where they fail without one."""

# ruff: noqa: T201 - a command, it prints

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time

from tests.helpers.support import ROOT

from .faults import FAULTS
from .plugin import VARIABLE

TESTS = ["tests/demo/test_classes.py", "tests/demo/test_time.py", "tests/demo/test_edits.py"]
TESTS.append("tests/demo/test_lora.py")


def noticed_by(fault: str | None) -> str:
    """The first test that fails with a fault in the program; "" = none.

    Raises:
        RuntimeError: the tests could not be run.
    """
    plugin = [] if fault is None else ["-p", "tests.mutations.plugin"]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not soak", *plugin, *TESTS]
    variables = os.environ if fault is None else os.environ | {VARIABLE: fault}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    found = re.search(r"^(?:FAILED|ERROR) \S+::(\S+)", done.stdout, flags=re.MULTILINE)
    if done.returncode != 1 or found is None:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return found[1]


def main() -> int:
    """Print the table; see the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of faults; default: all")
    chosen = parser.parse_args().names or list(FAULTS)
    missed = []
    without = noticed_by(None)
    if without:
        print(f"Without a fault {without} fails: mend it first.")
        return 1
    for name in chosen:
        begin = time.monotonic()
        test = noticed_by(name)
        print(
            f"{name:<28} {test or 'NOT NOTICED':<70} {time.monotonic() - begin:4.0f} s", flush=True
        )
        missed += [] if test else [name]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
