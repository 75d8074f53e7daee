"""Inputs that several editing nodes share."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.editing.masks import MASK_RULES

END, START = "at the end", "before the start"
SECONDS_MAX = 100_000.0  # the model's own limit is checked when sampling, with its name


def rule_input() -> Any:
    """How regions are rounded to latent frames."""
    return io.Combo.Input(
        "rule",
        options=MASK_RULES.names,
        default="cover",
        optional=True,
        tooltip=(
            "Rounding to latent frames (93 ms): cover = every frame that is touched is made anew; "
            "upstream = those whose first sample is."
        ),
        advanced=True,
    )


def where_input() -> Any:
    """Which side of a source is added to."""
    return io.Combo.Input(
        "where",
        options=[END, START],
        default=END,
        optional=True,
        tooltip="Which side of the source is added to.",
    )


def region_inputs() -> list[Any]:
    """Regions as text and from other nodes."""
    return [
        io.String.Input(
            "regions",
            default="",
            multiline=True,
            optional=True,
            placeholder="4-8, 0:16.5-0:20, 90%-100%, bar 5-9",
            tooltip=(
                "What is made anew: 4-8 (seconds), 0:16.5-0:20 (minutes), 90%-100% (of the "
                "piece), bar 5-9 (from bar 5 to the start of bar 9; needs bpm). Separate with "
                "commas, spaces or lines."
            ),
        ),
        io.Boolean.Input(
            "one_list_per_line",
            default=False,
            optional=True,
            tooltip="On: every line that is not blank holds the regions of one batch item.",
        ),
        io.AnyType.Input(
            "region_list",
            optional=True,
            tooltip=(
                "Regions from another node, added to the text: a list of (start, end) pairs in "
                "seconds, a text, or a list of either with one entry per batch item."
            ),
        ),
        io.Boolean.Input(
            "invert",
            default=False,
            optional=True,
            tooltip="On: the regions are kept and everything else is made anew.",
        ),
        io.Float.Input(
            "bpm",
            default=0.0,
            min=0.0,
            max=1000.0,
            step=0.1,
            optional=True,
            tooltip="Beats per minute, for regions in bars; 0 = not given.",
        ),
        io.Int.Input(
            "beats_per_bar",
            default=4,
            min=1,
            max=64,
            optional=True,
            tooltip="4 in 4/4, 3 in 3/4, ...; for regions in bars.",
        ),
    ]
