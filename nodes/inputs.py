"""Words, socket types and inputs that several nodes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from comfy_api.latest import io

from ..sa3_core.checks import MAX_SEED as SEED_MAX
from ..sa3_core.editing.masks import MASK_RULES
from ..sa3_core.errors import InputError
from ..sa3_core.files.published import DTYPES, OPEN_SOURCE, SOURCES
from ..sa3_core.registry import AUTO
from ..sa3_core.sampling.noise import RANDOM_SEED
from ..sa3_core.sampling.samplers import SAMPLERS
from ..sa3_core.sampling.schedule import SHIFTS
from ..sa3_core.sampling.settings import KEEP_MODES, MAX_STEPS, NOISE_SCHEDULES

CATEGORY = "audio/stable audio 3"
PRECISIONS = [AUTO, *DTYPES]
END, START = "at the end", "before the start"
BPM_MAX = 1000.0
SECONDS_MAX = 100_000.0  # the model's own limit is checked when sampling, with its name

Regions = io.Custom("SA3_REGIONS")
LoraModel = io.Custom("LORA_MODEL")
EncodedDataset = io.Custom("SA3_ENCODED_DATASET")
TRAINING = f"{CATEGORY}/training"
AUTO_AT_ZERO = {"sa3_zero": AUTO}  # js/zero_words.js shows and accepts the word for 0
OFF_AT_ZERO = {"sa3_zero": "off"}

# The core's name of a value -> the inputs that hold it, where they are called otherwise.
_INPUTS = {
    "noise_level": "denoise",
    "cfg_interval": "cfg_start to cfg_end",
    "lora_interval": "interval_start to interval_end",
    "add_seconds": "seconds",
}


@contextmanager
def naming_inputs() -> Iterator[None]:
    """Let an error about one of the core's values name the node's input; also a decorator.

    Raises:
        InputError: the error, with the input's name.
    """
    try:
        yield
    except InputError as error:
        raise error.named(lambda name: _INPUTS.get(name, name)) from error


def problem_of(read: Callable[[str], Any], text: str | None) -> bool | str:
    """For `validate_inputs`: True, or why a text that is not blank cannot be read."""
    try:
        return not (text and text.strip()) or bool(read(text)) or True
    except InputError as error:
        return str(error)


def first_problem(*found: bool | str) -> bool | str:
    """For `validate_inputs`: the first of several answers that is a sentence, else True."""
    return next((answer for answer in found if answer is not True), True)


def model_input(more: str = "") -> Any:
    """MODEL of ours."""
    return io.Model.Input("model", tooltip=f"MODEL of Load SA3 Model{more}.")


def vae_input() -> Any:
    """VAE of ours."""
    return io.Vae.Input("vae", tooltip="VAE of Load SA3 Model or Load SAME.")


def precision_input(tooltip: str, more: Sequence[str] = ()) -> Any:
    """Dtype of weights that are loaded or written."""
    return io.Combo.Input(
        "precision",
        options=[*PRECISIONS, *more],
        default=AUTO,
        tooltip=tooltip,
        advanced=True,
        optional=True,
    )


def download_input(tooltip: str) -> Any:
    """Where what is missing comes from."""
    return io.Combo.Input(
        "download_from",
        options=list(SOURCES),
        default=OPEN_SOURCE,
        tooltip=tooltip,
        advanced=True,
        optional=True,
    )


def prefix_input(default: str, tooltip: str) -> Any:
    """Folder and name inside the output folder."""
    return io.String.Input("filename_prefix", default=default, tooltip=tooltip, optional=True)


def seconds_input(
    tooltip: str,
    default: float = 0.0,
    least: float = 0.0,
    step: float = 0.1,
    optional: bool = False,
) -> Any:
    """A duration; one that is 0 from the start is `auto` there."""
    return io.Float.Input(
        "seconds",
        default=default,
        min=least,
        max=SECONDS_MAX,
        step=step,
        tooltip=tooltip,
        optional=optional,
        extra_dict={} if default else AUTO_AT_ZERO,
    )


def bars_input(default: float, least: float, tooltip: str) -> Any:
    """A length in bars."""
    return io.Float.Input(
        "bars", default=default, min=least, max=SECONDS_MAX, tooltip=tooltip, step=1, optional=True
    )


def bpm_input(
    default: float = 120.0,
    least: float = 1.0,
    most: float = BPM_MAX,
    step: float = 0.1,
    tooltip: str = "Beats per minute.",
) -> Any:
    """A tempo; 0, where it is allowed, is none."""
    return io.Float.Input(
        "bpm",
        default=default,
        min=least,
        max=most,
        step=step,
        tooltip=tooltip,
        optional=True,
        extra_dict={} if least else OFF_AT_ZERO,
    )


def beats_input(more: str = "") -> Any:
    """Beats in a bar."""
    return io.Int.Input(
        "beats_per_bar",
        default=4,
        min=1,
        max=64,
        tooltip=f"4 in 4/4, 3 in 3/4, ...{more}",
        optional=True,
    )


def crossfade_input(
    tooltip: str = "Length of the crossfade at the seams, inside the regenerated side.",
    advanced: bool = True,
) -> Any:
    """Crossfade where made audio meets the source's own."""
    return io.Float.Input(
        "crossfade_ms",
        default=20.0,
        min=0.0,
        max=10_000.0,
        step=1.0,
        tooltip=tooltip,
        advanced=advanced,
        optional=True,
    )


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
            advanced=True,
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
        bpm_input(
            default=0.0,
            least=0.0,
            tooltip="Beats per minute, for regions in bars; 0 = not given.",
        ),
        beats_input("; for regions in bars."),
    ]


def prompt_inputs() -> list[Any]:
    """CONDITIONING: what to make and what to keep away from."""
    return [
        io.Conditioning.Input("positive", tooltip="Prompt, or one per batch item."),
        io.Conditioning.Input(
            "negative",
            optional=True,
            tooltip="Negative prompt; acts only when cfg is not 1. Without one it is all zeros.",
        ),
    ]


def steps_input() -> Any:
    """Steps of the solver."""
    return io.Int.Input(
        "steps",
        default=0,
        min=0,
        max=MAX_STEPS,
        tooltip="0 = auto: 8 for post-trained models, 50 for base models.",
        optional=True,
        extra_dict=AUTO_AT_ZERO,
    )


def shift_input(tooltip: str, advanced: bool = False) -> Any:
    """Shape of the schedule."""
    options = [AUTO, *SHIFTS.names]
    return io.Combo.Input(
        "shift", options=options, default=AUTO, tooltip=tooltip, optional=True, advanced=advanced
    )


def denoise_input(tooltip: str) -> Any:
    """Noise level to start from."""
    return io.Float.Input(
        "denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=tooltip, optional=True
    )


def noise_schedule_input(tooltip: str) -> Any:
    """What the schedule does above the starting level."""
    return io.Combo.Input(
        "noise_schedule",
        options=list(NOISE_SCHEDULES),
        default=NOISE_SCHEDULES[0],
        tooltip=tooltip,
        advanced=True,
        optional=True,
    )


def sampling_inputs() -> list[Any]:
    """Seed, solver and guidance."""
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=RANDOM_SEED,
            max=SEED_MAX,
            control_after_generate=True,
            tooltip=(
                "Item i of a batch uses seed + i; results do not depend on device or batch. Only "
                "the low 32 bits count: 4294967296 makes the same take as 0. -1 = a random one, "
                "which the node and the saved graph tell."
            ),
        ),
        steps_input(),
        io.Combo.Input(
            "sampler",
            options=[AUTO, *SAMPLERS.names],
            default=AUTO,
            tooltip="auto = pingpong for post-trained models, euler for base models.",
            optional=True,
            advanced=True,
        ),
        shift_input(
            "How steps crowd along the noise levels; auto = as the model's config says.", True
        ),
        io.Float.Input(
            "cfg",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip="Guidance scale; 0 = auto: 1 for post-trained models, 7 for base models.",
            optional=True,
            extra_dict=AUTO_AT_ZERO,
        ),
        io.Float.Input(
            "apg",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="1 = projected guidance (less oversaturation), 0 = plain guidance.",
            optional=True,
            advanced=True,
        ),
    ]


def keep_mode_input() -> Any:
    """What happens to kept frames while sampling."""
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


def shift_options_input() -> Any:
    """Parameters of the schedule shift."""
    return io.String.Input(
        "shift_options",
        default="",
        optional=True,
        placeholder="rate=0.5, anchor_length=1500",
        tooltip=(
            "Parameters of the shift. logsnr: anchor_length, anchor_logsnr, rate, logsnr_end; "
            "flux: min_length, max_length, alpha_min, alpha_max; full: base_shift, max_shift, "
            "min_length, max_length, use_sine. With auto they change the model's own. Lengths are "
            "in latent frames."
        ),
        advanced=True,
    )
