"""Settings of `sa3 train` that go together; flags that are given win."""

import argparse
from collections.abc import Mapping
from typing import Any

STANDARD: Mapping[str, Any] = {
    "adapter_type": "dora-rows",
    "rank": 16,
    "steps": 10_000,
    "rate": 1e-4,
    "schedule": "constant",
    "batch": 1,
    "accumulate": 1,
    "crop": 0.0,
    "recompute": "auto",
}
# Short crops teach a style without copying pieces; whole pieces teach form, slowly.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "standard": STANDARD,
    "low-memory": {
        **STANDARD,
        "adapter_type": "lora",
        "rank": 8,
        "crop": 12.0,
        "recompute": "on",
    },
    "long": {**STANDARD, "steps": 20_000, "schedule": "inverse", "recompute": "on"},
}


def apply_preset(args: argparse.Namespace) -> None:
    """Fill in what was not given on the command line."""
    for name, value in PRESETS[args.preset].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
