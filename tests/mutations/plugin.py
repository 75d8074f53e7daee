"""A pytest plugin that puts the fault named by the environment into the program."""

from __future__ import annotations

import os

from .faults import FAULTS

VARIABLE = "SA3_FAULT"


def pytest_configure() -> None:
    FAULTS[os.environ[VARIABLE]].put()
