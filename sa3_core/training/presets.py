"""Settings of a training that go together; what is given beside them wins."""

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
    # To see in a minute that all works, on a few short clips: too fast a rate for anything good.
    "quick": {
        **STANDARD,
        "adapter_type": "lora",
        "rank": 8,
        "steps": 60,
        "rate": 3e-3,
        "batch": 4,
    },
}


def with_preset(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's settings, in place of those of them that were not given (None)."""
    return {
        key: value if given[key] is None else given[key] for key, value in PRESETS[name].items()
    }
