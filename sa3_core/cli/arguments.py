"""The command line's arguments: what can be given, and how it is read."""

import argparse
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..checkpoints.variants import VARIANTS
from ..editing.masks import MASK_RULES
from ..files.published import CONFIG_FILE, DTYPES, SOURCES, WEIGHTS_FILE
from ..geometry import HEADROOM_SECONDS
from ..networks.compiled import COMPILERS
from ..networks.config import OBJECTIVES
from ..registry import AUTO
from ..sampling.samplers import SAMPLERS
from ..sampling.schedule import SHIFTS
from .train_arguments import add_pre_encode, add_train
from .values import LastLora, parse_interval, parse_layers, parse_lora, parse_seconds, parse_seed

_DTYPES = (AUTO, *DTYPES)
DEFAULT_SECONDS = 30.0
DEFAULT_NOISE_LEVEL = 0.7  # of --init-audio
# The core's values whose flags are called otherwise, or are no attribute of the arguments.
_FLAGS = {
    "add_seconds": "add",
    "compiler": "compile",
    "layer_filter": "lora_filter",
    "lora_interval": "lora_interval",
}

EPILOG = """\
Models are given as a folder, a .safetensors file, or a name below --models-dir (else $SA3_MODELS,
else ./models), as `sa3 models` lists them. What is written is printed to stdout, one path per line;
warnings and progress go to stderr. Exit codes: 0 done, 1 error, 2 wrong usage, 130 interrupted.
"""


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = argparse.ArgumentParser(
        prog="sa3",
        description="Stable Audio 3 on the command line.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sa3 {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_generate(_command(commands, "generate", "Make audio from prompts, or edit audio."))
    _add_encode(_command(commands, "encode", "Audio file to latents."))
    _add_decode(_command(commands, "decode", "Latents to an audio file per item."))
    models = _command(commands, "models", "List models that were found and published ones.")
    _add_models_dir(models)
    _add_download(_command(commands, "download", "Get a published model from Hugging Face."))
    pre_encode = _command(commands, "pre-encode", "Encode a folder of recordings for training.")
    _add_model(pre_encode, "SAME autoencoder or full model")
    _add_place(pre_encode, chunk=False)
    add_pre_encode(pre_encode)
    train = _command(commands, "train", "Train a LoRA on encoded recordings.")
    _add_model(train, "a -base model")
    _add_place(train, chunk=False)
    add_train(train)
    _add_merge(_command(commands, "merge", "Write a checkpoint with LoRAs merged into it."))
    return parser


def flag_for(args: argparse.Namespace, name: str) -> str:
    """What the command line calls one of the core's values: its flag, where it has one."""
    name = _FLAGS.get(name, name)
    given = hasattr(args, name) or name in _FLAGS.values()
    return f"--{name.replace('_', '-')}" if given else name


def check_usage(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse options of `generate` that do not go together, as argparse refuses wrong ones."""
    if args.command != "generate":
        return
    together = (
        (args.inpaint_audio and not args.region, "--inpaint-audio needs --region"),
        (args.region and not args.inpaint_audio, "--region needs --inpaint-audio"),
        (args.continue_audio and args.add is None, "--continue-audio needs --add"),
        (args.add is not None and not args.continue_audio, "--add needs --continue-audio"),
        (
            args.seconds and args.continue_audio,
            "--seconds does not go with --continue-audio: the piece lasts its source and --add",
        ),
        (
            args.noise_level is not None and not (args.init_audio or args.inpaint_audio),
            "--noise-level needs --init-audio or --inpaint-audio",
        ),
        (args.bpm is not None and not args.region, "--bpm needs --region"),
    )
    for wrong, message in together:
        if wrong:
            parser.error(message)


def _version() -> str:
    try:
        return version("stable-audio-3-studio")
    except PackageNotFoundError:
        return "(not installed)"


def _command(commands: Any, name: str, about: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=about,
        description=about,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_models_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models-dir",
        type=Path,
        metavar="DIR",
        help="where names are looked up (default: $SA3_MODELS, else ./models)",
    )


def _add_model(parser: argparse.ArgumentParser, about: str) -> None:
    parser.add_argument("--model", required=True, metavar="DIR|FILE|NAME", help=about)
    _add_models_dir(parser)


def _add_place(parser: argparse.ArgumentParser, chunk: bool = True) -> None:
    parser.add_argument(
        "--device",
        default=AUTO,
        metavar="auto|cpu|cuda|mps",
        help="where to compute; auto: cuda, else mps, else cpu",
    )
    parser.add_argument(
        "--dtype",
        choices=_DTYPES,
        default=AUTO,
        help="precision of weights and computation; auto: the file's; on a CPU fp32, and bf16 for "
        "post-trained small models where the CPU has instructions for it",
    )
    if not chunk:
        return
    parser.add_argument(
        "--chunk",
        type=int,
        default=0,
        metavar="FRAMES",
        help="latent frames (93 ms) per chunk of the autoencoder; it bounds memory and changes "
        "nothing else (default 0: the whole, on CUDA what fits)",
    )


def _add_out(parser: argparse.ArgumentParser, about: str) -> None:
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help=about)
    parser.add_argument("--force", action="store_true", help="replace files that exist already")


def _add_audio_out(parser: argparse.ArgumentParser) -> None:
    _add_out(
        parser,
        ".wav (32-bit float, not clipped), .flac (24 bit), .mp3 or .opus, in an existing folder; "
        "several items are numbered: out.wav -> out_1.wav, out_2.wav, ...",
    )
    parser.add_argument(
        "--bits", type=int, choices=(16, 24), help="integer samples for .wav and .flac"
    )


def _add_noise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--decoder-noise", action="store_true", help="turn the decoder's random terms on"
    )
    parser.add_argument(
        "--noise-seed", type=parse_seed, default=0, metavar="N", help="seed of the decoder noise"
    )


def _add_list(parser: Any, flag: str, about: str, **options: Any) -> None:
    """A flag that takes several values and may be repeated; the values add up."""
    parser.add_argument(flag, nargs="+", action="extend", help=about, **options)


def _add_generate(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, "the model")
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
    _add_list(batch, "--prompt", "prompt; '' is valid", required=True, metavar="P")
    _add_list(batch, "--negative", "negative prompt, used when cfg is not 1", metavar="N")
    _add_list(
        batch,
        "--seconds",
        f"duration, also as m:ss (default: {DEFAULT_SECONDS:g}, or the source's)",
        type=parse_seconds,
        metavar="S",
    )
    _add_list(
        batch,
        "--seed",
        "one seed (item i gets seed + i), or one per item (default: 0)",
        type=parse_seed,
        metavar="N",
    )
    _add_sampling(parser.add_argument_group("sampling"))
    _add_editing(parser.add_argument_group("editing"))
    _add_loras(parser.add_argument_group("LoRA"))
    _add_place(parser)
    parser.add_argument(
        "--compile",
        choices=tuple(COMPILERS),
        help="compile the net, once per length bucket; made for NVIDIA cards; on a CPU it takes "
        "over a minute and rarely pays",
    )
    _add_noise(parser)
    _add_audio_out(parser)
    parser.add_argument(
        "--latents-out",
        type=Path,
        metavar="FILE",
        help="also write the latents (.safetensors; .npy for a single item)",
    )


def _add_sampling(group: Any) -> None:
    group.add_argument("--steps", type=int, default=0, metavar="N", help="0 = auto (8 or 50)")
    group.add_argument("--sampler", choices=(AUTO, *SAMPLERS.names), default=AUTO)
    group.add_argument("--shift", choices=(AUTO, *SHIFTS.names), default=AUTO)
    _add_list(
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
    group.add_argument("--cfg", type=float, default=0.0, metavar="X", help="0 = auto (1 or 7)")
    group.add_argument(
        "--apg", type=float, default=1.0, metavar="X", help="1 = full (default), 0 = plain guidance"
    )


def _add_editing(group: Any) -> None:
    source = group.add_mutually_exclusive_group()
    source.add_argument("--init-audio", type=Path, metavar="F", help="audio-to-audio")
    source.add_argument("--inpaint-audio", type=Path, metavar="F", help="make --region anew")
    source.add_argument("--continue-audio", type=Path, metavar="F", help="add --add seconds to it")
    group.add_argument(
        "--noise-level",
        type=float,
        metavar="X",
        help="0 keeps the source, 1 ignores it "
        f"(default: {DEFAULT_NOISE_LEVEL} for --init-audio, 1 for --inpaint-audio)",
    )
    _add_list(
        group,
        "--region",
        "what to make anew: 4-8, 0:16.5-0:20, 90%%-100%%, bar 5-9 (quote spaces)",
        metavar="R",
    )
    group.add_argument("--bpm", type=float, metavar="X", help="tempo, for regions in bars")
    group.add_argument(
        "--beats-per-bar", type=float, default=4.0, metavar="X", help="for regions in bars"
    )
    group.add_argument("--add", type=parse_seconds, metavar="S", help="seconds to add")
    group.add_argument(
        "--no-paste-back",
        action="store_true",
        help="leave what was kept as the model re-draws it, instead of the source's own samples",
    )
    group.add_argument(
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
    _add_lora_filter(group)


def _add_lora_filter(group: Any) -> None:
    group.add_argument(
        "--lora-filter",
        dest="lora_layers",
        type=parse_layers,
        action=LastLora,
        default=argparse.SUPPRESS,
        metavar="TEXT",
        help="layers that the --lora before it acts on, e.g. 'self_attn, layers[0-5]'",
    )


def _add_encode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="any audio or video file")
    _add_model(parser, "SAME autoencoder or full model")
    _add_place(parser)
    _add_out(parser, ".safetensors, or .npy (without the duration)")


def _add_decode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("latents", type=Path, metavar="LATENTS", help=".safetensors or .npy file")
    _add_model(parser, "SAME autoencoder or full model")
    _add_place(parser)
    _add_noise(parser)
    _add_audio_out(parser)


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help=", ".join(VARIANTS))
    parser.add_argument(
        "--source",
        choices=SOURCES,
        default="upstream",
        help="upstream: the original repository; mirror: the bundled bf16 one",
    )
    _add_models_dir(parser)


def _add_merge(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, "the model")
    _add_list(
        parser,
        "--lora",
        "in the order they are to be applied; strength 1 by default",
        type=parse_lora,
        required=True,
        metavar="F[:STRENGTH]",
    )
    _add_lora_filter(parser)
    parser.add_argument(
        "--dtype", choices=_DTYPES, default=AUTO, help="precision written; auto: the file's own"
    )
    parser.add_argument(
        "--copy-text-encoder", action="store_true", help="also copy it, where --out is a folder"
    )
    _add_out(
        parser,
        f"a .safetensors file, or a folder that gets {WEIGHTS_FILE} and {CONFIG_FILE}",
    )
