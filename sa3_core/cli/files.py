"""What the command line's commands share: places of models and results, devices, progress."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import torch
from tqdm import tqdm

from ..audio.file import write_audio
from ..audio.formats import AudioFormat, format_for
from ..audio.levels import Levels, set_levels
from ..checkpoints.library import Kind, Library
from ..checkpoints.variants import VARIANTS
from ..codec.autoencode import OnProgress
from ..codec.latent_file import SUFFIXES
from ..errors import CheckpointError, InputError
from ..files.names import name_fault, short_name
from ..files.published import DTYPES
from ..files.whole_file import NewName, Place
from ..networks.quantised import STORAGES
from ..pieces import Take
from ..registry import AUTO

log = logging.getLogger(__name__)

MODELS_VARIABLE = "SA3_MODELS"


def models_dir(args: argparse.Namespace) -> Path:
    """`--models-dir`, else `$SA3_MODELS`, else `./models`."""
    return args.models_dir or Path(os.environ.get(MODELS_VARIABLE) or "models")


def find_model(args: argparse.Namespace, name: str, kind: Kind) -> Path:
    """A path as it is, else a name in the models folder.

    Raises:
        CheckpointError: neither is there; says how to get it.
    """
    path = Path(name).expanduser()
    if fault := name_fault(path):
        raise CheckpointError(f"The model {short_name(path)} {fault}.")
    if path.exists():
        return path
    if path.is_absolute() or name.startswith("."):
        raise CheckpointError(f"{name}: no such file or folder.")
    folder = models_dir(args)
    try:
        return Library.from_models_dir(folder).resolve(name, kind)
    except InputError as error:
        hint = f" (`sa3 download {name}`)" if name in VARIANTS else ""
        raise CheckpointError(f"{error}{hint} Looked in {folder}.") from error


def find_text_encoder(args: argparse.Namespace, model: Path) -> Path:
    """`--text-encoder`, else the one that goes with the model.

    Raises:
        CheckpointError: there is none; says where to put it.
    """
    if args.text_encoder:
        return find_model(args, args.text_encoder, "text_encoder")
    try:
        return Library.from_models_dir(models_dir(args)).text_encoder_for(model)
    except CheckpointError as error:
        raise CheckpointError(f"{error} Or name one with --text-encoder.") from error


def find_autoencoder(args: argparse.Namespace, model: Path) -> Path:
    """`--autoencoder`, else the one that goes with the model.

    Raises:
        CheckpointError: there is none; says where to put it.
    """
    if args.autoencoder:
        return find_model(args, args.autoencoder, "autoencoder")
    return Library.from_models_dir(models_dir(args)).autoencoder_for(model)


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        InputError: unknown, or not on this machine.
    """
    if name == AUTO:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = name.partition(":")
    present = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if kind not in present or (number and not number.isdigit()):
        raise InputError(f"is {name!r}; known: auto, cpu, cuda, cuda:N, mps.", "device")
    if int(number or 0) >= present[kind]:
        raise InputError(f"There is no {name!r} device on this machine. Use --device auto or cpu.")
    return torch.device(name)


def pick_dtype(name: str) -> torch.dtype | None:
    """A precision by its name; None = auto."""
    return DTYPES.get(name)


def pick_storage(name: str) -> str | None:
    """The 8 bits that a precision stores the transformer in; None = it stores all alike."""
    return name if name in STORAGES else None


def pick_chunk(chunk: int) -> int | None:
    """Latent frames per chunk; None = the whole.

    Raises:
        InputError: a negative number.
    """
    if chunk < 0:
        raise InputError(f"is {chunk}; it must be 1 latent frame or more, or 0 for auto.", "chunk")
    return chunk or None


def pick_levels(args: argparse.Namespace) -> Levels:
    """Loudness and peaks of what is written.

    Raises:
        InputError: a value out of range, or two that exclude each other.
    """
    return Levels(args.loudness_lufs, args.peaks, args.ceiling_dbtp).checked()


def numbered(out: Path, count: int) -> list[Path]:
    """`out` alone for one item, else `out_1`, `out_2`, ... with its suffix."""
    if count == 1:
        return [out]
    return [out.with_name(f"{out.stem}_{number}{out.suffix}") for number in range(1, count + 1)]


def check_outputs(paths: Sequence[Path], force: bool, new_folder: bool = False) -> None:
    """Refuse, before anything is computed, what could not be written or would be lost.

    Args:
        paths: files to be written.
        force: existing files may be replaced.
        new_folder: the files' own folder need not be there, only the one it lies in.

    Raises:
        InputError: no such folder, a folder instead of a file, a file that is there already, or a
            name that no file can have.
    """
    for path in paths:
        if fault := name_fault(path):
            raise InputError(f"{short_name(path)} {fault}. Choose another name.")
        folder = path.parent.parent if new_folder and not path.parent.exists() else path.parent
        if not folder.is_dir():
            raise InputError(f"{path}: there is no folder {str(folder)!r}. Make it first.")
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file in it.")
        if path.exists() and not force:
            raise InputError(
                f"{path} exists already. Choose another name, or --force to replace it."
            )


def check_latents_out(path: Path, count: int) -> None:
    """Refuse a name that latents of `count` items cannot be written under."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path.name}: latent files end in {' or '.join(SUFFIXES)}.")
    if suffix == ".npy" and count > 1:
        raise InputError(f"{path.name}: a .npy file holds one item, there are {count}.")


def audio_outputs(args: argparse.Namespace, count: int) -> tuple[list[Path], AudioFormat]:
    """Names and format of the audio files, checked; the levels, too."""
    pick_levels(args)
    audio_format = format_for(args.out, args.bits)
    paths = numbered(args.out, count)
    check_outputs(paths, args.force)
    return paths, audio_format


def place_for(path: Path, force: bool) -> Place:
    """Where a result goes: it replaces what is there only where that was asked for."""
    return path if force else NewName(path)


def written_as(wanted: Path, path: Path) -> str:
    """What to print of a written file; a warning too where another program took its name."""
    if path != wanted:
        log.warning(
            "%s was made by another program in the meantime and stays as it is; this one is %s.",
            wanted,
            path.name,
        )
    return str(path)


def write_takes(
    args: argparse.Namespace,
    paths: Sequence[Path],
    takes: Sequence[Take],
    audio_format: AudioFormat,
) -> list[str]:
    """Write one file per take, brought to the levels asked for; what to print."""
    levels, clips = pick_levels(args), audio_format.max_peak is not None
    written = []
    for path, take in zip(paths, takes, strict=True):
        audio, said = set_levels(take.audio, take.sample_rate, levels, clips)
        if said:
            log.warning("%s: %s.", path.name, ", ".join(said))
        place = place_for(path, args.force)
        report = write_audio(place, audio, take.sample_rate, audio_format)
        written.append(written_as(path, report.path))
        if report.clipped:
            log.warning(
                "%s: the peak is %.2f and was clipped to %g in %d samples; --peaks auto turns it "
                "down, a .wav without --bits keeps it.",
                path.name,
                report.peak,
                audio_format.max_peak,
                report.clipped,
            )
    return written


class Bars:
    """Progress bars on stderr, one per stage; silent where stderr is no terminal."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._stage = ""

    def __enter__(self) -> OnProgress:
        return self._update

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _update(self, stage: str, done: int, total: int) -> None:
        if self._bar is None or stage != self._stage:
            self._close()
            self._stage = stage
            big = total > 1_000_000  # bytes
            self._bar = tqdm(
                total=total,
                desc=stage,
                file=sys.stderr,
                disable=None,
                unit="B" if big else "it",
                unit_scale=big,
            )
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
