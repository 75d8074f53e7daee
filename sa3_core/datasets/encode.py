"""Encoding a folder of recordings: every clip once, whatever was there before kept."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio.file import read_source
from ..audio.waveform import peak, prepare_source
from ..codec.autoencode import SAMEAutoencoder, encode
from ..errors import AudioError, InputError, LatentFileError
from ..files.whole_file import write_failure
from ..geometry import HOP, SAMPLE_RATE, frames_covering
from .encoded import SILENCE, read_notes, write_array, write_notes
from .folder import Recording

DEFAULT_SAMPLES = 12_582_912  # 285.3 s
QUIET = 10 ** (-60 / 20)  # peak below which a recording counts as silence
_SHORTEST = HOP // 4

OnRecording = Callable[[int, int, str], None]  # done, total, relative path; may raise to stop


@dataclass(frozen=True)
class Outcome:
    """What became of a recording.

    Attributes:
        relative: its path in the folder.
        status: `encoded`, `kept` (was there already) or `rejected`.
        note: why it was rejected, or what is worth knowing about it.
        seconds: of sound.
        names: its encoded clips.
    """

    relative: str
    status: str
    note: str = ""
    seconds: float = 0.0
    names: tuple[str, ...] = ()


def autoencoder_name(autoencoder: SAMEAutoencoder) -> str:
    """`same-l` where it attends in a window, `same-s` where in chunks."""
    return "same-l" if autoencoder.config.encoder.window else "same-s"


def encode_folder(
    recordings: Sequence[Recording],
    autoencoder: SAMEAutoencoder,
    out: Path,
    sample_size: int = DEFAULT_SAMPLES,
    pad: bool = False,
    on_recording: OnRecording = lambda done, total, name: None,
) -> list[Outcome]:
    """Encode recordings into a folder; what is there already from the same sound is kept.

    Files longer than `sample_size` are cut into consecutive pieces. Nothing is replaced, flipped
    or repeated; two recordings of the same sound make one clip.

    Args:
        recordings: from `list_recordings`.
        autoencoder: on its device, in the precision to compute in; float16 is stored as such.
        out: the folder, made where it is missing.
        sample_size: most samples of a clip.
        pad: store every clip at the full length, silence behind it.
        on_recording: told before each recording, and once at the end.

    Returns:
        One outcome per recording.

    Raises:
        InputError: a sample_size below one frame, or no recording can be used.
        LatentFileError: a file cannot be written; what is written already stays and is kept next
            time.
    """
    if sample_size < HOP:
        raise InputError(f"is {sample_size}; it must be {HOP} samples or more.", "sample_size")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LatentFileError(write_failure(out, error)) from error
    job = _Job(autoencoder, out, sample_size // HOP, pad)
    job.write_silence()
    outcomes: list[Outcome] = []
    for done, recording in enumerate(recordings):
        on_recording(done, len(recordings), recording.relative)
        outcomes.append(job.run(recording))
    on_recording(len(recordings), len(recordings), "")
    if all(outcome.status == "rejected" for outcome in outcomes):
        faults = "; ".join(f"{o.relative}: {o.note}" for o in outcomes[:5])
        raise InputError(f"None of the {len(outcomes)} recordings can be used ({faults}).")
    return outcomes


class _Job:
    """Encodes one recording after the other into a folder."""

    def __init__(self, autoencoder: SAMEAutoencoder, out: Path, frames: int, pad: bool) -> None:
        self._net, self._out, self._frames, self._pad = autoencoder, out, frames, pad
        self._kind = autoencoder_name(autoencoder)
        half = next(autoencoder.parameters()).dtype == torch.float16
        self._dtype = np.float16 if half else np.float32
        self._seen: dict[str, str] = {}

    def write_silence(self) -> None:
        path = self._out / SILENCE
        if path.is_file():
            found = np.load(path, allow_pickle=False, mmap_mode="r")
            if found.shape[-1] == self._frames and found.dtype == self._dtype:
                return
        silence = encode(self._net, torch.zeros(1, 2, self._frames * HOP))
        write_array(path, silence.numpy().astype(self._dtype))

    def run(self, recording: Recording) -> Outcome:
        """Encode a recording, or say why not."""
        name = recording.relative
        if not recording.caption:
            return Outcome(name, "rejected", "no caption: put a .txt file of the same name beside")
        try:
            audio, rate, mixed = read_source(recording.path)
            sound = prepare_source(audio, rate).clamp(-1, 1)
        except AudioError as error:
            return Outcome(name, "rejected", str(error))
        seconds = sound.shape[-1] / SAMPLE_RATE
        if sound.shape[-1] < _SHORTEST:
            return Outcome(name, "rejected", "shorter than 25 ms", seconds)
        if peak(sound) < QUIET:
            return Outcome(name, "rejected", "silent: its peak is below -60 dB", seconds)
        content = self._content(sound)
        if content in self._seen:
            note = f"the same sound as {self._seen[content]}"
            return Outcome(name, "rejected", note, seconds)
        self._seen[content] = name
        pieces = [p for p in sound.split(self._frames * HOP, dim=-1) if p.shape[-1] >= _SHORTEST]
        made = [self._write(recording, content, i, p) for i, p in enumerate(pieces)]
        names = tuple(f"{content}{index:04d}" for index in range(len(pieces)))
        notes = [f"cut into {len(pieces)} pieces"] if len(pieces) > 1 else []
        note = "; ".join([*notes, mixed] if mixed else notes)
        return Outcome(name, "encoded" if any(made) else "kept", note, seconds, names)

    def _content(self, sound: Tensor) -> str:
        """16 hex digits of the sound and of what it is encoded with."""
        settings = f"{self._kind} {self._frames} {self._pad} {np.dtype(self._dtype).name}"
        digest = hashlib.sha256(settings.encode())
        digest.update(sound.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _write(self, recording: Recording, content: str, index: int, piece: Tensor) -> bool:
        """Write a piece's files where they are not there; whether it was encoded."""
        path = self._out / f"{content}{index:04d}.npy"
        valid = frames_covering(piece.shape[-1])
        frames = self._frames if self._pad else valid
        encoded = not path.is_file()
        if encoded:
            latents = self._encode(piece, valid, frames)
            write_array(path, latents.numpy().astype(self._dtype))
        start = index * self._frames * HOP / SAMPLE_RATE
        notes = {
            "prompt": recording.caption,
            "seconds_total": piece.shape[-1] / SAMPLE_RATE,
            "seconds_start": start,
            "padding_mask": [1] * valid + [0] * (frames - valid),
            "path": str(recording.path),
            "relpath": recording.relative,
            "sample_rate": SAMPLE_RATE,
            "autoencoder": self._kind,
        }
        notes_path = path.with_suffix(".json")
        if encoded or not notes_path.is_file() or read_notes(notes_path) != notes:
            write_notes(notes_path, notes)
        return encoded

    def _encode(self, piece: Tensor, valid: int, frames: int) -> Tensor:
        """[256, frames], encoded with as much silence behind as the last frames depend on."""
        total = max(frames, valid + self._net.halo)
        padded = F.pad(piece, (0, total * HOP - piece.shape[-1]))
        return encode(self._net, padded)[0, :, :frames].clone()
