"""The command line's arguments: what can be given, and how it is read."""

import argparse
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..checkpoints.variants import VARIANTS
from ..files.published import CONFIG_FILE, SOURCES, WEIGHTS_FILE
from ..networks.quantised import STORAGES
from ..registry import AUTO
from .evaluate_arguments import add_evaluate
from .generate_arguments import add_generate
from .job_arguments import PRE_ENCODE, add_job
from .measure_arguments import add_measure
from .shared_arguments import (
    PRECISIONS,
    add_audio_out,
    add_layer_filter,
    add_list,
    add_lora_strengths,
    add_model,
    add_models_dir,
    add_noise,
    add_out,
    add_place,
)
from .train_arguments import add_pre_encode, add_train
from .values import parse_lora, parse_path, parse_seconds

PACKAGE, OLD_PACKAGE = "comfyui-sa3", "stable-audio-3-studio"

# The core's values whose flags are called otherwise, or have had another name.
_FLAGS = {
    "add_seconds": ("--add",),
    "cfg_interval": ("--cfg-start to --cfg-end",),
    "compiler": ("--compile",),
    "layer_filter": ("--layer-filter", "--lora-filter"),
    "loop_seconds": ("--seconds", "--bars"),
    "lora_interval": ("--lora-interval",),
    "noise_level": ("--denoise", "--noise-level"),
    "storage": ("--precision", "--dtype"),
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
    add_generate(_command(commands, "generate", "Make audio from prompts, or edit audio."))
    _add_encode(_command(commands, "encode", "Audio file to latents."))
    _add_decode(_command(commands, "decode", "Latents to an audio file per item."))
    models = _command(commands, "models", "List models that were found and published ones.")
    add_models_dir(models)
    _add_download(_command(commands, "download", "Get a published model from Hugging Face."))
    pre_encode = _command(commands, PRE_ENCODE, "Encode a folder of recordings for training.")
    add_model(pre_encode, "SAME autoencoder or full model")
    add_place(pre_encode, chunk=False)
    add_pre_encode(pre_encode)
    train = _command(commands, "train", "Train a LoRA on encoded recordings.")
    add_model(train, "a -base model")
    add_place(train, chunk=False, narrow=True)
    add_train(train)
    add_measure(_command(commands, "measure", "Tell what sounds are like, without any model."))
    scores = "Score generated sounds against real ones: FD-openl3, KL-passt, CLAP."
    add_evaluate(_command(commands, "evaluate", scores))
    _add_merge(
        _command(
            commands,
            "merge",
            "Write a checkpoint with LoRAs merged into it, or one LoRA of several.",
        )
    )
    return parser


def flag_for(args: argparse.Namespace, argv: Sequence[str], name: str) -> str:
    """What the command line calls one of the core's values: the flag as it was typed.

    Args:
        args: parsed.
        argv: as typed.
        name: the core's.
    """
    plain = (f"--{name.replace('_', '-')}",) if hasattr(args, name) else ()
    flags = _FLAGS.get(name, plain)
    typed = {word.partition("=")[0] for word in argv}
    return next((flag for flag in flags if flag in typed), flags[0] if flags else name)


def _version() -> str:
    return installed_version(PACKAGE) or "(not installed)"


def installed_version(package: str) -> str | None:
    """Version of a package as pip knows it; None = it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _command(commands: Any, name: str, about: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=about,
        description=about,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_encode(parser: argparse.ArgumentParser) -> None:
    audio = "any audio or video files; several become the items of one latent file"
    parser.add_argument("audio", nargs="+", type=parse_path, metavar="AUDIO", help=audio)
    add_model(parser, "SAME autoencoder or full model")
    parser.add_argument(
        "--seconds",
        type=parse_seconds,
        metavar="S",
        help="duration: cut, or padded with silence (default: the source's own)",
    )
    add_place(parser)
    add_out(parser, ".safetensors, or .npy (without the duration)")


def _add_decode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "latents",
        nargs="?",
        type=parse_path,
        metavar="LATENTS",
        help=".safetensors or .npy file; or many, by --from",
    )
    add_model(parser, "SAME autoencoder or full model", required=False)
    add_place(parser)
    add_noise(parser)
    add_job(parser)
    add_audio_out(parser)


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help=", ".join(VARIANTS))
    parser.add_argument(
        "--download-from",
        "--source",
        choices=SOURCES,
        default="upstream",
        help="upstream: the original repository; mirror: the bundled bf16 one",
    )
    add_models_dir(parser)


def _add_merge(parser: argparse.ArgumentParser) -> None:
    add_model(parser, "the model; without one the LoRAs are made into one LoRA", required=False)
    add_list(
        parser,
        "--lora",
        "in the order they are to be applied; strength 1 by default",
        kind=parse_lora,
        metavar="F[:STRENGTH]",
    )
    add_lora_strengths(parser)
    add_layer_filter(parser)
    parser.add_argument(
        "--precision",
        "--dtype",
        choices=(*PRECISIONS, *STORAGES),
        default=AUTO,
        help="precision written; auto: the file's own; int8, fp8_e4m3: the transformer's large "
        "weights in 8 bits, as ComfyUI's quantised files",
    )
    parser.add_argument(
        "--with-text-encoder",
        "--copy-text-encoder",
        action="store_true",
        help="also copy it, where --out is a folder",
    )
    add_out(
        parser,
        f"a .safetensors file, or a folder that gets {WEIGHTS_FILE} and {CONFIG_FILE}",
    )
