"""Words, inputs and socket types that several nodes share."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.editing.masks import MASK_RULES
from ..sa3_core.files.published import DTYPES
from ..sa3_core.registry import AUTO
from ..sa3_core.sampling.samplers import SAMPLERS
from ..sa3_core.sampling.schedule import SHIFTS
from ..sa3_core.sampling.settings import KEEP_MODES, MAX_STEPS

CATEGORY = "audio/stable audio 3"
WITH_MODEL = "with the model"
PRECISIONS = [AUTO, *DTYPES]

END, START = "at the end", "before the start"
Regions = io.Custom("SA3_REGIONS")
SEED_MAX = 2**64 - 1
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


def sampling_inputs() -> list[Any]:
    """Seed, steps, sampler, shift and guidance, of every node that samples."""
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=SEED_MAX,
            control_after_generate=True,
            tooltip="Item i of a batch uses seed + i; results do not depend on device or batch.",
        ),
        io.Int.Input(
            "steps",
            default=0,
            min=0,
            max=MAX_STEPS,
            tooltip="0 = auto: 8 for post-trained models, 50 for base models.",
            optional=True,
        ),
        io.Combo.Input(
            "sampler",
            options=[AUTO, *SAMPLERS.names],
            default=AUTO,
            tooltip="auto = pingpong for post-trained models, euler for base models.",
            optional=True,
        ),
        io.Combo.Input(
            "shift",
            options=[AUTO, *SHIFTS.names],
            default=AUTO,
            tooltip="How steps crowd along the noise levels; auto = as the model's config says.",
            optional=True,
        ),
        io.Float.Input(
            "cfg",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip="Guidance scale; 0 = auto: 1 for post-trained models, 7 for base models.",
            optional=True,
        ),
        io.Float.Input(
            "apg",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="1 = projected guidance (less oversaturation), 0 = plain guidance.",
            optional=True,
        ),
    ]


def model_input() -> Any:
    """What samples."""
    return io.Model.Input("model", tooltip="MODEL of Load SA3 Model.")


def prompt_inputs() -> list[Any]:
    """What to make, and what to keep away from."""
    return [
        io.Conditioning.Input("positive", tooltip="Prompt, or one per batch item."),
        io.Conditioning.Input(
            "negative",
            optional=True,
            tooltip="Negative prompt; acts only when cfg is not 1. Without one it is all zeros.",
        ),
    ]


def keep_mode_input() -> Any:
    """How masked latents keep what is not masked."""
    return io.Combo.Input(
        "keep_mode",
        options=list(KEEP_MODES),
        default=KEEP_MODES[0],
        tooltip=(
            "Masked latents: model = kept frames condition the model, as trained; hard = they "
            "are also put back at every step."
        ),
        advanced=True,
        optional=True,
    )
