"""The arguments of `sa3 generate`, under the names that the nodes' inputs have."""

import argparse
from collections.abc import Sequence
from typing import Any

from ..editing.masks import MASK_RULES
from ..editing.paste_plan import CROSSFADE_SECONDS
from ..geometry import HEADROOM_SECONDS
from ..jobs.fields import DECODE
from ..jobs.rules import DEFAULT_NOISE_LEVEL, DEFAULT_SECONDS, END, START, Rule, usage_rules
from ..networks.compiled import COMPILERS
from ..networks.config import OBJECTIVES
from ..registry import AUTO
from ..sampling.samplers import SAMPLERS
from ..sampling.schedule import SHIFTS
from ..sampling.settings import KEEP_MODES, NOISE_SCHEDULES
from .job_arguments import PRE_ENCODE, add_job, decode_rules, engine_rules, job_rules
from .shared_arguments import (
    add_audio_out,
    add_layer_filter,
    add_list,
    add_lora_strengths,
    add_model,
    add_noise,
    add_place,
)
from .values import (
    LastLora,
    parse_fixed_seed,
    parse_interval,
    parse_lora,
    parse_path,
    parse_seconds,
    parse_seed,
    parse_seed_list,
)


def add_generate(parser: argparse.ArgumentParser) -> None:
    """Everything that `generate` takes."""
    add_model(parser, "the model", required=False)
    parser.add_argument(
        "--text-encoder",
        metavar="DIR|FILE|NAME",
        help="T5Gemma (default: the model folder's, else one in text_encoders)",
    )
    parser.add_argument(
        "--autoencoder",
        metavar="DIR|FILE|NAME",
        help="SAME (default: the model's own, else one in the models folder that goes with it)",
    )
    parser.add_argument("--objective", choices=(AUTO, *OBJECTIVES), default=AUTO)
    batch = parser.add_argument_group(
        "what to make", "Several values, or a flag repeated, make a batch; one value serves all."
    )
    add_list(batch, "--prompt", "prompt; '' is valid", metavar="P")
    add_list(batch, "--negative", "negative prompt, used when cfg is not 1", metavar="N")
    add_list(
        batch,
        "--seconds",
        f"duration, also as m:ss (default: {DEFAULT_SECONDS:g}, or the source's)",
        kind=parse_seconds,
        metavar="S",
    )
    batch.add_argument("--bars", type=float, metavar="N", help="duration in bars, with --bpm")
    batch.add_argument("--bpm", type=float, metavar="X", help="tempo, for bars")
    batch.add_argument("--beats-per-bar", type=float, default=4.0, metavar="X", help="for bars")
    add_list(
        batch,
        "--seed",
        "one seed (item i gets seed + i), or one per item (default: 0); only its low 32 bits "
        "count; -1 = one at random, which is told",
        kind=parse_seed,
        metavar="N",
    )
    batch.add_argument(
        "--seeds", type=parse_seed_list, metavar="TEXT", help="one seed per item: 7, 9, 20-23"
    )
    batch.add_argument(
        "--variation-seed",
        type=parse_fixed_seed,
        default=0,
        metavar="N",
        help="second seed to move towards",
    )
    batch.add_argument(
        "--variation-strength",
        type=float,
        default=0.0,
        metavar="X",
        help="0 = the seed's own take (default), 1 = the variation seed's",
    )
    _add_sampling(parser.add_argument_group("sampling"))
    _add_editing(parser.add_argument_group("editing"))
    _add_loras(parser.add_argument_group("LoRA"))
    add_place(parser, narrow=True)
    parser.add_argument(
        "--compile",
        choices=tuple(COMPILERS),
        help="compile the net, once per length bucket; made for NVIDIA cards; on a CPU it takes "
        "over a minute and rarely pays",
    )
    add_noise(parser)
    add_job(parser)
    add_audio_out(parser)
    parser.add_argument(
        "--latents-out",
        type=parse_path,
        metavar="FILE",
        help="also write the latents (.safetensors; .npy for a single item)",
    )


def _add_sampling(group: Any) -> None:
    number = {"type": float, "metavar": "X"}
    group.add_argument("--steps", type=int, default=0, metavar="N", help="0 = auto (8 or 50)")
    group.add_argument("--sampler", choices=(AUTO, *SAMPLERS.names), default=AUTO)
    group.add_argument("--shift", choices=(AUTO, *SHIFTS.names), default=AUTO)
    add_list(
        group,
        "--shift-options",
        "the shift's parameters, e.g. rate=0.5 anchor_length=1500",
        metavar="NAME=X",
    )
    group.add_argument(
        "--headroom",
        type=float,
        default=HEADROOM_SECONDS,
        metavar="S",
        help=f"seconds after the piece that are computed and cut off (default: "
        f"{HEADROOM_SECONDS:g}, as trained)",
    )
    group.add_argument("--cfg", default=0.0, help="0 = auto (1 or 7)", **number)
    group.add_argument(
        "--apg", default=1.0, help="1 = full (default), 0 = plain guidance", **number
    )
    group.add_argument(
        "--cfg-start", default=0.0, help="lowest noise level at which guidance acts", **number
    )
    group.add_argument(
        "--cfg-end", default=1.0, help="highest noise level at which guidance acts", **number
    )
    group.add_argument(
        "--norm-threshold",
        default=0.0,
        help="longest guidance push, as a norm over the item; 0 = no limit",
        **number,
    )
    group.add_argument(
        "--rescale",
        default=0.0,
        help="brings the guided prediction's deviation back to the unguided one, 0-1",
        **number,
    )
    group.add_argument(
        "--noise-schedule",
        choices=NOISE_SCHEDULES,
        default=NOISE_SCHEDULES[0],
        help="with --denoise below 1: upstream may rise above that level, bounded never does",
    )
    group.add_argument(
        "--keep-mode",
        choices=KEEP_MODES,
        default=KEEP_MODES[0],
        help="what is kept conditions the model (model), or is also put back at every step (hard)",
    )


def _add_editing(group: Any) -> None:
    source = group.add_mutually_exclusive_group()
    source.add_argument("--init-audio", type=parse_path, metavar="F", help="audio-to-audio")
    source.add_argument("--inpaint-audio", type=parse_path, metavar="F", help="make --region anew")
    source.add_argument(
        "--continue-audio", type=parse_path, metavar="F", help="add --add seconds to it"
    )
    source.add_argument(
        "--extend-audio",
        type=parse_path,
        metavar="F",
        help="add --add seconds, more than fit at once",
    )
    source.add_argument(
        "--loop-audio",
        type=parse_path,
        metavar="F",
        help="make a loop of its first --bars or --seconds",
    )
    group.add_argument(
        "--denoise",
        "--noise-level",
        type=float,
        metavar="X",
        help="0 keeps the source, 1 ignores it "
        f"(default: {DEFAULT_NOISE_LEVEL} for --init-audio, else 1)",
    )
    group.add_argument(
        "--region",
        "--regions",
        nargs="+",
        action="extend",
        metavar="R",
        help="what to make anew: 4-8, 0:16.5-0:20, 90%%-100%%, bar 5-9 (quote spaces)",
    )
    group.add_argument(
        "--one-list-per-line",
        action="store_true",
        help="every --region value, or line of one, is for an item of its own",
    )
    group.add_argument(
        "--invert", action="store_true", help="keep the regions, make everything else anew"
    )
    group.add_argument("--add", type=parse_seconds, metavar="S", help="seconds to add")
    group.add_argument(
        "--where",
        choices=(END, START),
        default=END,
        help="which side of the source --add goes to (default: end)",
    )
    group.add_argument(
        "--context-seconds",
        type=parse_seconds,
        metavar="S",
        help="how much of the source, beside what is made, the model hears (default: all; 30 for "
        "--extend-audio): lets --inpaint-audio and --continue-audio take longer sources",
    )
    group.add_argument(
        "--overlap-seconds",
        type=parse_seconds,
        metavar="S",
        help="over how long windows of --extend-audio are crossfaded (default: 1)",
    )
    group.add_argument(
        "--window-seconds",
        type=parse_seconds,
        metavar="S",
        help="length of a window of --extend-audio (default: the model's maximum)",
    )
    group.add_argument(
        "--seam-seconds",
        type=parse_seconds,
        metavar="S",
        help="how much around the seam of a loop is made anew (default: 2, or half a short loop)",
    )
    _add_pasting(group)


def _add_pasting(group: Any) -> None:
    group.add_argument(
        "--keep-source-exactly",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="put the source's own samples back where it was kept (default)",
    )
    group.add_argument(
        "--no-paste-back", dest="keep_source_exactly", action="store_false", help=argparse.SUPPRESS
    )
    group.add_argument(
        "--crossfade-ms",
        type=float,
        default=1000 * CROSSFADE_SECONDS,
        metavar="X",
        help="length of the crossfade at the seams (default: 20)",
    )
    group.add_argument(
        "--rule",
        "--mask-rule",
        choices=MASK_RULES.names,
        default="cover",
        help="rounding of regions to latent frames: cover = outward",
    )


def _add_loras(group: Any) -> None:
    group.add_argument(
        "--lora",
        type=parse_lora,
        action="append",
        metavar="F[:STRENGTH]",
        help="may be repeated; strength 1 by default",
    )
    group.add_argument(
        "--lora-interval",
        type=parse_interval,
        action=LastLora,
        default=argparse.SUPPRESS,
        metavar="MIN-MAX",
        help="noise levels at which the --lora before it is active (1 = noise, 0 = data)",
    )
    add_lora_strengths(group)
    add_layer_filter(group)


def check_usage(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse options that do not go together, as argparse refuses wrong ones."""
    for wrong, message in _rules(args):
        if wrong:
            parser.error(message)


def _rules(args: argparse.Namespace) -> Sequence[Rule]:
    if args.command == PRE_ENCODE:
        return engine_rules(args)
    if args.command == DECODE:
        return decode_rules(args)
    return [*job_rules(args), *usage_rules(args)]
