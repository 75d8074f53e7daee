"""Latents on disk, and batches taken apart."""

from pathlib import Path
from typing import Any

import folder_paths

from ....sa3_core.checks import check_seconds, shown
from ....sa3_core.codec.latent_file import SUFFIXES, Latents, read_latents, write_latents
from ....sa3_core.errors import InputError
from ....sa3_core.geometry import seconds_of_frames
from ..host.folders import file_state, path_below
from ..host.running import intermediate
from ..sockets.riding import audio_batch, latent_value, settled
from ..sockets.values import Audio, Latent, durations
from .names import output_names

FORMATS = ("safetensors", "npy")
SUBFOLDER = "latents"  # below input and output, where the combo looks
_NOT_STORED = "The mask and the source of an edit are not stored."


def save_latents(
    latent: Latent, prefix: str, format_name: str, hidden: Any = None
) -> tuple[list[str], list[str]]:
    """Write a LATENT into the output folder, never over an existing file.

    Args:
        latent: ours.
        prefix: folder and name inside the output folder.
        format_name: safetensors (the batch in one file) or npy (one file per item, as upstream).
        hidden: the node's hidden inputs (prompt and workflow), for tokens of the prefix.

    Returns:
        The files as Load SA3 Latents names them, and sentences for the node.
    """
    latent, notes = settled(latent, "Save SA3 Latents")
    samples, seconds = latent["samples"].float().cpu(), durations(latent)
    names = output_names(prefix, hidden)
    parts = [Latents(samples, seconds)]
    if format_name == "npy":
        parts = [Latents(samples[b : b + 1], (s,)) for b, s in enumerate(seconds)]
    files = []
    for index, part in enumerate(parts):
        path = write_latents(names.item(index, f".{format_name}"), part)
        files.append(f"{(Path(names.subfolder) / path.name).as_posix()} [output]")
    notes += [f"saved {file}" for file in files]
    if format_name == "npy":
        notes.append("npy holds no duration: set it when loading.")
    if latent.get("noise_mask") is not None:
        notes.append(_NOT_STORED)
    return files, notes


def latent_files() -> list[str]:
    """Latent files in input, input/latents and output/latents, as annotated names."""
    found = []
    for kind, root in _roots().items():
        folders = [root] if kind == "input" else []
        for folder in [*folders, root / SUBFOLDER]:
            paths = folder.rglob("*") if folder.name == SUBFOLDER else folder.glob("*")
            names = sorted(
                path.relative_to(root).as_posix()
                for path in paths
                if path.suffix.lower() in SUFFIXES and path.is_file()
            )
            found += [f"{name} [{kind}]" for name in names]
    return found


def _roots() -> dict[str, Path]:
    return {
        "input": Path(folder_paths.get_input_directory()),
        "output": Path(folder_paths.get_output_directory()),
        "temp": Path(folder_paths.get_temp_directory()),
    }


def latent_path(file: str) -> Path:
    """The path behind `name [input]`, `[output]` or `[temp]` (input where none is said).

    Raises:
        InputError: outside these folders, or not there.
    """
    name, kind = file.strip(), "input"
    for word in ("input", "output", "temp"):
        if name.endswith(f"[{word}]"):
            name, kind = name[: -len(word) - 2].strip(), word
    path = path_below(_roots()[kind], name, "file")
    if not path.is_file():
        raise InputError(
            f"is {shown(file)}, which is not there. Put latents into input, input/{SUBFOLDER} or "
            f"output/{SUBFOLDER}, and refresh the node list.",
            "file",
        )
    return path


def fingerprint(file: str) -> str:
    """What changes when a file's contents do."""
    try:
        return str(file_state(latent_path(file)))
    except InputError:
        return "missing"


def load_latents(file: str, seconds: float) -> tuple[Latent, list[str]]:
    """Read a latent file.

    Args:
        file: annotated name.
        seconds: duration of the piece, 0 = as stored (all frames where none is).

    Returns:
        The LATENT, and sentences for the node.
    """
    stored = read_latents(latent_path(file))
    frames = stored.frames.shape[-1]
    lengths = list(stored.seconds)
    if seconds:
        longest = seconds_of_frames(frames)
        if seconds > longest:
            raise InputError(
                f"seconds is {seconds:g}; {file} holds {frames} frames, {longest:.3f} s at most."
            )
        lengths = [check_seconds(seconds, longest)] * len(lengths)
    items = f"{len(lengths)} item{'' if len(lengths) == 1 else 's'}"
    shown = ", ".join(f"{length:g}" for length in lengths)
    return latent_value(intermediate(stored.frames), lengths), [
        f"{items} of {frames} frames, {shown} s"
    ]


def split_audio(audio: Any) -> tuple[list[Audio], list[str]]:
    """Every item of an AUDIO batch as an AUDIO of its own, cut to its own length; what to say."""
    batch = audio_batch(audio, "Split Audio Batch")
    items = [
        {"waveform": batch.item(b)[None], "sample_rate": batch.rate}
        for b in range(len(batch.waveform))
    ]
    return items, batch.notes
