"""Arguments that several commands have."""

import argparse
from collections.abc import Callable
from typing import Any

from ..audio.levels import PEAKS
from ..audio.loudness import CEILING
from ..files.published import DTYPES
from ..networks.quantised import STORAGES
from ..registry import AUTO
from .values import LastLora, parse_fixed_seed, parse_layers, parse_path, parse_wide

PRECISIONS = (AUTO, *DTYPES)


def add_models_dir(parser: argparse.ArgumentParser) -> None:
    """Where models are."""
    parser.add_argument(
        "--models-dir",
        type=parse_path,
        metavar="DIR",
        help="where names are looked up (default: $SA3_MODELS, else ./models)",
    )


def add_model(parser: argparse.ArgumentParser, about: str, required: bool = True) -> None:
    """Which model."""
    parser.add_argument("--model", required=required, metavar="DIR|FILE|NAME", help=about)
    add_models_dir(parser)


def add_place(parser: argparse.ArgumentParser, chunk: bool = True, narrow: bool = False) -> None:
    """Device, precision and chunks.

    Args:
        parser: of the command.
        chunk: whether the autoencoder runs.
        narrow: whether the transformer runs, so that it can be stored in 8 bits.
    """
    parser.add_argument(
        "--device",
        default=AUTO,
        metavar="auto|cpu|cuda|mps",
        help="where to compute; auto: cuda, else mps, else cpu",
    )
    parser.add_argument(
        "--precision",
        "--dtype",
        choices=(*PRECISIONS, *STORAGES) if narrow else PRECISIONS,
        type=str if narrow else parse_wide,
        default=AUTO,
        help="precision of weights and computation; auto: the file's; on a CPU fp32, and bf16 for "
        "post-trained small models where the CPU has instructions for it"
        + (
            "; int8, fp8_e4m3: the transformer's large weights stored in 8 bits, computed as auto"
            if narrow
            else ""
        ),
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


def add_out(parser: argparse.ArgumentParser, about: str) -> None:
    """Where to write."""
    parser.add_argument("--out", required=True, type=parse_path, metavar="FILE", help=about)
    parser.add_argument("--force", action="store_true", help="replace files that exist already")


def add_audio_out(parser: argparse.ArgumentParser) -> None:
    """Where and how to write audio."""
    add_out(
        parser,
        ".wav (32-bit float, not clipped), .flac (24 bit), .mp3, .opus or .m4a, in an existing "
        "folder; several items are numbered: out.wav -> out_1.wav, out_2.wav, ...",
    )
    parser.add_argument(
        "--bits", type=int, choices=(16, 24), help="integer samples for .wav and .flac"
    )
    parser.add_argument(
        "--loudness-lufs",
        type=float,
        default=0.0,
        metavar="X",
        help="bring every file to this loudness, e.g. -14, but never above a true peak of -1 dB "
        "unless --peaks is limit (default 0: as it is)",
    )
    parser.add_argument(
        "--peaks",
        choices=PEAKS,
        default=PEAKS[0],
        help="auto: turned down to full scale where it is above (not in float .wav); off: clipped "
        "where the format must; normalise: true peak at --ceiling-dbtp; limit: softly below it",
    )
    parser.add_argument(
        "--ceiling-dbtp",
        type=float,
        default=CEILING,
        metavar="X",
        help=f"true peak for --peaks normalise and limit (default: {CEILING:g})",
    )


def add_noise(parser: argparse.ArgumentParser) -> None:
    """The decoder's random terms."""
    parser.add_argument(
        "--decoder-noise", action="store_true", help="turn the decoder's random terms on"
    )
    parser.add_argument(
        "--noise-seed",
        type=parse_fixed_seed,
        default=0,
        metavar="N",
        help="seed of the decoder noise",
    )


def add_list(
    parser: Any,
    flag: str,
    about: str,
    metavar: str,
    kind: Callable[[str], Any] = str,
    required: bool = False,
) -> None:
    """A flag that takes several values and may be repeated; the values add up."""
    parser.add_argument(
        flag,
        nargs="+",
        action="extend",
        help=about,
        metavar=metavar,
        type=kind,
        required=required,
    )


def add_layer_filter(group: Any) -> None:
    """Layers of the LoRA named before."""
    group.add_argument(
        "--layer-filter",
        "--lora-filter",
        dest="lora_layers",
        type=parse_layers,
        action=LastLora,
        default=argparse.SUPPRESS,
        metavar="TEXT",
        help="layers that the --lora before it acts on, e.g. 'self_attn, layers[0-5]'",
    )


def add_lora_strengths(group: Any) -> None:
    """How strongly the LoRA named before acts, and on what."""
    group.add_argument(
        "--strength",
        dest="lora_strength",
        type=float,
        action=LastLora,
        default=argparse.SUPPRESS,
        metavar="X",
        help="of the --lora before it, as after the colon",
    )
    group.add_argument(
        "--strength-conditioner",
        dest="lora_strength_conditioner",
        type=float,
        action=LastLora,
        default=argparse.SUPPRESS,
        metavar="X",
        help="of the --lora before it on the duration embedding (default: as --strength)",
    )
    group.add_argument(
        "--partial",
        dest="lora_partial",
        action=LastLora,
        nargs=0,
        default=argparse.SUPPRESS,
        help="apply the layers of the --lora before it that fit even when others do not",
    )
