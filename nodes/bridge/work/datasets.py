"""What the dataset nodes do: recordings of a folder or of AUDIOs, and their encoded clips."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import folder_paths

from ....sa3_core.audio.file import write_audio
from ....sa3_core.audio.formats import FORMATS
from ....sa3_core.datasets.encode import Encoder, Outcome, autoencoder_name, encode_folder
from ....sa3_core.datasets.folder import CaptionRule, Recording, list_recordings
from ....sa3_core.datasets.plan import header_seconds
from ....sa3_core.errors import InputError
from ....sa3_core.files.json_text import parse_json
from ....sa3_core.geometry import HOP, samples_of
from ....sa3_core.text.prompts import split_prompts
from ..host.folders import path_below, states_mark
from ..host.running import chunk_reporter
from ..sockets.riding import audio_batch
from ..sockets.vae import require_same

ENCODED = "sa3_encoded"  # folder of encoded clips, in the output folder
_PARTS = "sa3_dataset"  # folder of AUDIOs that became files, in the temporary folder
_FORMAT = FORMATS["wav-32f"]

Row = dict[str, Any]  # a line of the node's table


@dataclass(frozen=True)
class SoundDataset:
    """SA3_DATASET: recordings with captions.

    Attributes:
        name: of its folder of encoded clips.
        recordings: in order.
    """

    name: str
    recordings: tuple[Recording, ...]


@dataclass(frozen=True)
class EncodedSounds:
    """SA3_ENCODED_DATASET: a folder of encoded clips.

    Attributes:
        folder: in the published format.
        names: clips of the dataset; the folder may hold others, of earlier runs.
    """

    folder: Path
    names: frozenset[str]


def input_folders() -> list[str]:
    """Folders below ComfyUI's input folder, with forward slashes; '.' is the input folder."""
    base = Path(folder_paths.get_input_directory())
    found = (path.relative_to(base) for path in base.rglob("*") if path.is_dir())
    shown = (path.as_posix() for path in found if not any(p.startswith(".") for p in path.parts))
    return [".", *sorted(shown)]


def folder_of(name: str) -> Path:
    """A folder below ComfyUI's input folder.

    Raises:
        InputError: it leads out of it, or there is none.
    """
    path = path_below(Path(folder_paths.get_input_directory()), name, "folder")
    if not path.is_dir():
        raise InputError(
            f"is {name!r}, which is not there. Put the recordings into a folder below the input "
            "folder, and refresh the node list.",
            "folder",
        )
    return path


def folder_state(name: str) -> str:
    """Changes with every file of a folder."""
    try:
        files = sorted(path for path in folder_of(name).rglob("*") if path.is_file())
    except (OSError, InputError):
        return name
    return states_mark(files)


def folder_dataset(
    folder: str, rule: CaptionRule, edited: str = ""
) -> tuple[SoundDataset, list[Row]]:
    """The recordings of a folder.

    Args:
        folder: below ComfyUI's input folder.
        rule: of captions.
        edited: JSON, captions by recording that replace what is found.

    Returns:
        The dataset, and the lines of the node's table.

    Raises:
        InputError: no such folder, no sound in it, or captions that cannot be read.
    """
    path = folder_of(folder)
    recordings = _with_captions(list_recordings(path, rule), edited)
    name = "input" if folder == "." else folder.replace("/", "_")
    return SoundDataset(name, tuple(recordings)), _rows(recordings, folder)


def audio_dataset(
    audio: Mapping[str, Any], captions: str, trigger: str, edited: str = ""
) -> tuple[SoundDataset, list[Row]]:
    """The items of AUDIOs, written down where encoding and the page find them.

    Args:
        audio: AUDIOs by the input's name.
        captions: a line for each item, or one for all.
        trigger: in front of every caption.
        edited: as of `folder_dataset`.

    Raises:
        AudioError: no audio, or none that can be used.
        InputError: more than one caption, but not one for each item.
    """
    lines = list(filter(None, split_prompts(captions)))
    place = Path(folder_paths.get_temp_directory()) / _PARTS
    place.mkdir(parents=True, exist_ok=True)
    recordings: list[Recording] = []
    for value in audio.values():
        batch = audio_batch(value, "Audio Dataset")
        for index in range(len(batch.waveform)):
            samples = batch.item(index).cpu()
            digest = hashlib.sha256(samples.contiguous().numpy().tobytes()).hexdigest()[:16]
            path = place / f"{digest}-{batch.rate}.wav"
            if not path.is_file():
                write_audio(path, samples, batch.rate, _FORMAT)
            recordings.append(Recording(path, f"clip {len(recordings) + 1}", ""))
    if len(lines) not in (0, 1, len(recordings)):
        raise InputError(
            f"has {len(lines)} lines for {len(recordings)} clips. Write a line for each, or one "
            "for all.",
            "captions",
        )
    lines = lines * len(recordings) if len(lines) == 1 else lines or [""] * len(recordings)
    said = [f"{trigger}, {line}" if trigger and line else line for line in lines]
    named = [replace(r, caption=line) for r, line in zip(recordings, said, strict=True)]
    named = _with_captions(named, edited)
    return SoundDataset("clips", tuple(named)), _rows(named, _PARTS, "temp")


def edited_captions(text: str) -> dict[str, str]:
    """Captions by recording, as the table writes them.

    Raises:
        InputError: no JSON object of texts.
    """
    if not text.strip():
        return {}
    try:
        found = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is no readable JSON ({error}).", "edited_captions") from error
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise InputError('must be an object such as {"kick.wav": "808 kick"}.', "edited_captions")
    return found


def _with_captions(recordings: Sequence[Recording], edited: str) -> list[Recording]:
    own = edited_captions(edited)
    return [replace(r, caption=own.get(r.relative, r.caption).strip()) for r in recordings]


def _rows(recordings: Sequence[Recording], folder: str, kind: str = "input") -> list[Row]:
    rows = []
    for recording in recordings:
        seconds = header_seconds(recording)
        note = "" if seconds else "no readable sound"
        note = note or ("" if recording.caption else "no caption")
        place = Path(folder, recording.relative) if kind == "input" else recording.path
        subfolder = place.parent.as_posix() if kind == "input" else folder
        rows.append(
            {
                "clip": recording.relative,
                "seconds": round(seconds, 3),
                "caption": recording.caption,
                "note": note,
                "accepted": not note,
                "file": {
                    "filename": place.name,
                    "subfolder": "" if subfolder == "." else subfolder,
                    "type": kind,
                },
            }
        )
    return rows


def encode_dataset(
    vae: Any, dataset: SoundDataset, piece_seconds: float, batch: int
) -> tuple[EncodedSounds, list[Row]]:
    """Encode a dataset into its folder; what is there of the same sound is kept.

    Args:
        vae: ours.
        dataset: recordings.
        piece_seconds: longer recordings are cut into pieces of so many.
        batch: clips that are encoded at once.

    Returns:
        The encoded dataset, and a line of the node's table for each recording.

    Raises:
        InputError: another VAE, or no recording can be used.
        LatentFileError: a file cannot be written.
    """
    same = require_same(vae, "Encode Dataset")
    net = same.first_stage_model
    kind = autoencoder_name(net)
    half = str(same.vae_dtype) == "torch.float16"
    encoder = Encoder(
        kind,
        net.halo,
        net.chunk_grid,
        half,
        lambda sound: same.encode_audio(sound).float().cpu(),
    )
    folder = Path(folder_paths.get_output_directory()) / ENCODED / f"{dataset.name}-{kind}"
    report = chunk_reporter("encoding")
    outcomes = encode_folder(
        dataset.recordings,
        encoder,
        folder,
        max(samples_of(piece_seconds), HOP),
        batch=batch,
        on_recording=lambda done, total, name: report(done, total),
    )
    names = frozenset(name for outcome in outcomes for name in outcome.names)
    return EncodedSounds(folder, names), [_row(outcome) for outcome in outcomes]


def _row(outcome: Outcome) -> Row:
    return {
        "clip": outcome.relative,
        "seconds": round(outcome.seconds, 3),
        "status": outcome.status,
        "note": outcome.note,
        "accepted": outcome.status != "rejected",
    }


def summary(rows: Sequence[Row]) -> list[str]:
    """What a node says about its table."""
    used = [row for row in rows if row["accepted"]]
    minutes = sum(row["seconds"] for row in used) / 60
    lines = [f"{len(used)} of {len(rows)} clips, {minutes:.1f} minutes"]
    return lines + [f"{row['clip']}: {row['note']}" for row in rows if row["note"]][:12]
