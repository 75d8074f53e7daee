"""Prints the requirements on its standard input that the packages of this Python do not meet."""

# ruff: noqa: T201 - a command, it prints

import importlib.metadata
import sys

from packaging.requirements import Requirement

for line in sys.stdin.read().splitlines():
    wanted = Requirement(line)
    if wanted.marker and not wanted.marker.evaluate():
        continue
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        print(line)
    else:
        if not wanted.specifier.contains(version, prereleases=True):
            print(line)
