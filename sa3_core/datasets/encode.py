"""Encoding a folder of recordings: every clip once, whatever was there before kept."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio.file import read_source
from ..audio.waveform import peak, prepare_source
from ..checks import check_whole
from ..codec.autoencode import SAMEAutoencoder, encode
from ..errors import AudioError, InputError, LatentFileError
from ..files.array_file import read_floats
from ..files.whole_file import write_failure
from ..geometry import HOP, LATENT_CHANNELS, SAMPLE_RATE, frames_covering
from .encoded import SILENCE, read_notes, write_array, write_notes
from .folder import Recording

DEFAULT_SAMPLES = 12_582_912  # 285.3 s
ENCODED, KEPT, REJECTED = "encoded", "kept", "rejected"
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


@dataclass(frozen=True)
class Encoder:
    """What encodes clips.

    Attributes:
        kind: `same-s` or `same-l`.
        halo: frames of silence behind a clip that its last frames depend on.
        grid: frames after which it does the same again.
        half: latents are stored in float16.
        run: [B, 2, N] at 44.1 kHz -> [B, 256, N / 4096] float32 on the CPU.
    """

    kind: str
    halo: int
    grid: int
    half: bool
    run: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, net: SAMEAutoencoder) -> "Encoder":
        """A net on its device, in the precision that it computes in."""
        half = next(net.parameters()).dtype == torch.float16
        return cls(autoencoder_name(net), net.halo, net.chunk_grid, half, partial(encode, net))

    def silence(self, frames: int) -> Tensor:
        """Encoded zeros [1, 256, frames].

        Away from both ends every grid of frames is the same one: it is computed once.
        """
        edge = self.halo + -self.halo % self.grid
        enough = 2 * edge + self.grid + frames % self.grid
        if frames <= enough:
            return self.run(torch.zeros(1, 2, frames * HOP))
        found = self.run(torch.zeros(1, 2, enough * HOP))
        start, end = found[..., : edge + self.grid], found[..., edge + self.grid :]
        middle = start[..., edge:].repeat(1, 1, (frames - enough) // self.grid)
        return torch.cat([start, middle, end], dim=-1)


def encode_folder(
    recordings: Sequence[Recording],
    autoencoder: SAMEAutoencoder | Encoder,
    out: Path,
    sample_size: int = DEFAULT_SAMPLES,
    pad: bool = False,
    batch: int = 1,
    on_recording: OnRecording = lambda done, total, name: None,
) -> list[Outcome]:
    """Encode recordings into a folder; what is there already from the same sound is kept.

    Files longer than `sample_size` are cut into consecutive pieces. Nothing is replaced, flipped
    or repeated; two recordings of the same sound make one clip.

    Args:
        recordings: from `list_recordings`.
        autoencoder: on its device, in the precision to compute in (float16 is stored as such); or
            a host's way to encode.
        out: the folder, made where it is missing.
        sample_size: most samples of a clip.
        pad: store every clip at the full length, silence behind it.
        batch: clips that are encoded at once.
        on_recording: told before each recording, and once at the end.

    Returns:
        One outcome per recording.

    Raises:
        InputError: a sample_size below one frame, or no recording can be used.
        LatentFileError: a file cannot be written; what is written already stays and is kept next
            time.
    """
    check_whole("sample_size", sample_size, HOP)
    make_folder(out)
    check_whole("batch", batch, 1)
    encoder = autoencoder if isinstance(autoencoder, Encoder) else Encoder.of(autoencoder)
    folder = EncodedFolder(encoder, out, sample_size // HOP, pad, batch)
    folder.write_silence()
    outcomes: list[Outcome] = []
    seen: dict[str, str] = {}
    for done, recording in enumerate(recordings):
        on_recording(done, len(recordings), recording.relative)
        outcomes.append(folder.add(recording, seen))
    folder.flush()
    on_recording(len(recordings), len(recordings), "")
    require_some(outcomes)
    return outcomes


def make_folder(out: Path) -> None:
    """A folder for clips, where it is missing.

    Raises:
        LatentFileError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LatentFileError(write_failure(out, error)) from error


def require_some(outcomes: Sequence[Outcome]) -> None:
    """Refuse a folder without any recording of use.

    Raises:
        InputError: all were rejected; it says why, of the first ones.
    """
    if all(outcome.status == REJECTED for outcome in outcomes):
        faults = "; ".join(f"{o.relative}: {o.note}" for o in outcomes[:5])
        raise InputError(f"None of the {len(outcomes)} recordings can be used ({faults}).")


def same_sound_as(first: str) -> str:
    """Why a recording is not encoded again."""
    return f"the same sound as {first}"


@dataclass(frozen=True, eq=False)
class _Piece:
    """A clip that waits for its batch."""

    path: Path
    sound: Tensor
    valid: int
    frames: int
    notes: Mapping[str, Any]


class EncodedFolder:
    """Takes one recording after the other into a folder of encoded clips."""

    def __init__(
        self,
        encoder: Encoder,
        out: Path,
        frames: int,
        pad: bool,
        batch: int,
        base: Path = Path(),
    ) -> None:
        """Nothing is encoded yet.

        Args:
            encoder: of clips.
            out: the folder, there already.
            frames: most latent frames of a clip.
            pad: store every clip at the full length.
            batch: clips that are encoded at once.
            base: what relative paths of recordings start from.
        """
        self._base = base
        self._encoder, self._out, self._frames, self._pad = encoder, out, frames, pad
        self._batch, self._waiting = batch, list[_Piece]()
        self._dtype = np.float16 if encoder.half else np.float32

    def write_silence(self) -> None:
        """Silence of a clip's full length, where it is not there.

        Raises:
            LatentFileError: it cannot be written.
        """
        path = self._out / SILENCE
        if path.is_file():
            with suppress(ValueError, OSError):  # a damaged one is made anew
                found = read_floats(path)
                if found.shape[-1:] == (self._frames,) and found.dtype == self._dtype:
                    return
        silence = self._encoder.silence(self._frames)
        write_array(path, silence.numpy().astype(self._dtype))

    def add(self, recording: Recording, seen: dict[str, str] | None = None) -> Outcome:
        """Encode a recording, or say why not; `flush` writes what waits for a full batch.

        Args:
            recording: with its caption.
            seen: names by sound of the recordings before, kept up to date; one of the same sound
                is rejected. None = whoever asks looks after them.

        Raises:
            LatentFileError: a file cannot be written.
        """
        name = recording.relative
        if not recording.caption:
            return Outcome(name, REJECTED, "no caption: put a .txt file of the same name beside")
        try:
            audio, rate, mixed = read_source(self._base / recording.path)
            sound = prepare_source(audio, rate).clamp(-1, 1)
        except AudioError as error:
            return Outcome(name, REJECTED, str(error))
        seconds = sound.shape[-1] / SAMPLE_RATE
        if sound.shape[-1] < _SHORTEST:
            return Outcome(name, REJECTED, "shorter than 25 ms", seconds)
        if peak(sound) < QUIET:
            return Outcome(name, REJECTED, "silent: its peak is below -60 dB", seconds)
        content = self._content(sound)
        if seen is not None and seen.setdefault(content, name) != name:
            return Outcome(name, REJECTED, same_sound_as(seen[content]), seconds)
        pieces = [p for p in sound.split(self._frames * HOP, dim=-1) if p.shape[-1] >= _SHORTEST]
        made = [self._write(recording, content, i, p) for i, p in enumerate(pieces)]
        names = tuple(f"{content}{index:04d}" for index in range(len(pieces)))
        notes = [f"cut into {len(pieces)} pieces"] if len(pieces) > 1 else []
        note = "; ".join([*notes, mixed] if mixed else notes)
        return Outcome(name, ENCODED if any(made) else KEPT, note, seconds, names)

    def flush(self) -> None:
        """Encode and write the pieces that wait for a full batch.

        Raises:
            LatentFileError: a file cannot be written.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        # With as much silence behind as the last frames depend on; more changes nothing.
        total = max(max(p.frames, p.valid + self._encoder.halo) for p in waiting)
        batch = [F.pad(p.sound, (0, total * HOP - p.sound.shape[-1])) for p in waiting]
        for piece, latents in zip(waiting, self._encoder.run(torch.cat(batch)), strict=True):
            write_array(piece.path, latents[:, : piece.frames].numpy().astype(self._dtype))
            write_notes(piece.path.with_suffix(".json"), piece.notes)

    def _content(self, sound: Tensor) -> str:
        """16 hex digits of the sound and of what it is encoded with."""
        settings = f"{self._encoder.kind} {self._frames} {self._pad} {np.dtype(self._dtype).name}"
        digest = hashlib.sha256(settings.encode())
        digest.update(sound.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _write(self, recording: Recording, content: str, index: int, piece: Tensor) -> bool:
        """Have a piece's files written where they are not there; whether it is encoded."""
        path = self._out / f"{content}{index:04d}.npy"
        valid = frames_covering(piece.shape[-1])
        frames = self._frames if self._pad else valid
        start = index * self._frames * HOP / SAMPLE_RATE
        notes = {
            "prompt": recording.caption,
            "seconds_total": piece.shape[-1] / SAMPLE_RATE,
            "seconds_start": start,
            "audio_samples": piece.shape[-1],
            "latent_shape": [LATENT_CHANNELS, frames],
            "padding_mask": [1] * valid + [0] * (frames - valid),
            "path": str(recording.path),
            "relpath": recording.relative,
            "sample_rate": SAMPLE_RATE,
            "autoencoder": self._encoder.kind,
        }
        if not path.is_file():
            self._waiting.append(_Piece(path, piece, valid, frames, notes))
            if len(self._waiting) == self._batch:
                self.flush()
            return True
        notes_path = path.with_suffix(".json")
        if not notes_path.is_file() or read_notes(notes_path) != notes:
            write_notes(notes_path, notes)
        return False
