"""A folder of recordings as a job: a row is a recording, its clips go into one dataset folder."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.load import load_autoencoder
from ..datasets.encode import ENCODED, KEPT, REJECTED, EncodedFolder, Encoder, same_sound_as
from ..datasets.encode import Outcome as Encoded
from ..datasets.encoded import SILENCE, read_notes, write_notes
from ..datasets.folder import Recording
from ..geometry import HOP
from .buckets import Bucket
from .outcome import DONE, Outcome, Results
from .row import Row, digest_of
from .spec import Computing, ModelFiles
from .worker import device_of, failure_of

SAME_AS = "same_as"  # of a line: the recording before it that holds the same sound
_PATH, _CAPTION = "path", "caption"  # cells of a row


@dataclass(frozen=True)
class EncodingJob:
    """Encoding a folder.

    Attributes:
        base: what relative paths of recordings start from.
        out: the dataset folder.
        model: the autoencoder.
        computing: how to compute; `batch` recordings go together.
        sample_size: most samples of a clip.
        pad: clips are stored at the full length.
    """

    base: Path
    out: Path
    model: ModelFiles
    computing: Computing
    sample_size: int
    pad: bool = False

    @property
    def shards(self) -> bool:
        """A dataset is single files."""
        return False

    def rows(self, recordings: Sequence[Recording]) -> list[Row]:
        """A row for each, behind one for the silence that the folder needs."""
        rows = [
            Row(one.relative, line, {_PATH: str(one.path), _CAPTION: one.caption})
            for line, one in enumerate(recordings, 1)
        ]
        return [Row(SILENCE, 0), *rows]

    def digest(self, row: Row) -> str:
        """A hash of the row and of its file's size and date.

        A file that only looks changed is read again and its clips are kept; nothing of 100,000
        recordings is read before the first is encoded.
        """
        state = None
        if row.id != SILENCE:
            with suppress(OSError):  # gone meanwhile: the worker says so
                status = (self.base / row.cells[_PATH]).stat()
                state = [status.st_size, status.st_mtime_ns]
        return digest_of([row.id, dict(row.cells), state, self._settled])

    @cached_property
    def _settled(self) -> list[Any]:
        return [self.model.marks(), self.sample_size, self.pad, str(self.computing.dtype)]

    def notes(self) -> dict[str, Any]:
        """Nothing: each clip has notes of its own."""
        return {}

    def buckets(self, rows: Sequence[Row]) -> list[Bucket]:
        """Recordings in their order, as many together as a batch has."""
        size = self.computing.batch or 1
        silence = [row for row in rows if row.id == SILENCE]
        sounds = [row for row in rows if row.id != SILENCE]
        parts = [sounds[start : start + size] for start in range(0, len(sounds), size)]
        return [Bucket(tuple(part), (0,) * len(part)) for part in (silence, *parts) if part]

    def settle(self, rows: Sequence[Row], results: Results) -> None:
        """Of recordings of the same sound the first gives the clips their notes.

        Raises:
            LatentFileError: a clip's notes cannot be read or written.
        """
        by_id = {row.id: row for row in rows}
        firsts: dict[str, str] = {}
        for line in results.lines(rows):
            if line["outcome"] != DONE or not line.get("names"):
                continue
            name = line["id"]
            first = firsts.setdefault(line["names"][0], name)
            same = "" if first == name else first
            if line.get(SAME_AS, "") != same:
                results.change(by_id[name], {SAME_AS: same})
            if same and line["status"] == ENCODED:  # whichever worker was faster
                results.change(by_id[first], {"status": ENCODED})
            if not same:
                self._own_notes(_recording(by_id[name]), line["names"])

    def _own_notes(self, recording: Recording, names: Sequence[str]) -> None:
        own = {
            "prompt": recording.caption,
            "path": str(recording.path),
            "relpath": recording.relative,
        }
        for name in names:
            path = self.out / f"{name}.json"
            notes = read_notes(path)
            if {**notes, **own} != notes:
                write_notes(path, {**notes, **own})


class EncodingWorker:
    """Encodes recordings with an autoencoder that stays loaded."""

    def __init__(self, job: EncodingJob, device: str) -> None:
        """Set the threads; nothing is loaded yet."""
        self._job, self._device = job, device
        self._encoder: Encoder | None = None
        if job.computing.threads is not None:
            torch.set_num_threads(job.computing.threads)

    def run(self, bucket: Bucket) -> Iterator[Outcome]:
        """Encode the recordings of a bucket; one that fails stops no other."""
        try:
            outcomes = self._together(bucket.rows)
        except Exception as error:
            if len(bucket.rows) == 1:
                yield failure_of(bucket.rows[0], error)
                return
            for row, frames in zip(bucket.rows, bucket.frames, strict=True):
                yield from self.run(Bucket((row,), (frames,)))
        else:
            yield from outcomes

    def _together(self, rows: Sequence[Row]) -> list[Outcome]:
        job = self._job
        frames, batch = job.sample_size // HOP, job.computing.batch or 1
        encoder = self._loaded()
        folder = EncodedFolder(encoder, job.out, frames, job.pad, batch, job.base)
        if rows[0].id == SILENCE:
            folder.write_silence()
            size = (job.out / SILENCE).stat().st_size
            return [Outcome(SILENCE, DONE, file=SILENCE, bytes=size)]
        encoded = [folder.add(_recording(row)) for row in rows]
        folder.flush()
        return [_outcome(job.out, one, encoder.kind) for one in encoded]

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            dtype = self._job.computing.dtype
            net = load_autoencoder(self._job.model.model, dtype, self._device)
            self._encoder = Encoder.of(net)
        return self._encoder


def encoding_worker(job: EncodingJob, number: int) -> EncodingWorker:
    """Worker `number` of a job."""
    return EncodingWorker(job, device_of(job.computing.device, number))


def encoded_of(line: Mapping[str, Any], now: bool) -> Encoded:
    """What became of a recording.

    Args:
        line: of the results.
        now: it ended in this run.
    """
    name, seconds, names = line["id"], line["seconds"] or 0.0, tuple(line.get("names") or ())
    if line["outcome"] != DONE:
        return Encoded(name, line["outcome"], line["error"], seconds)
    if first := line.get(SAME_AS):
        return Encoded(name, REJECTED, same_sound_as(first), seconds)
    return Encoded(name, line["status"] if now else KEPT, line["note"], seconds, names)


def _outcome(out: Path, one: Encoded, kind: str) -> Outcome:
    """A recording's line: a kept clip is done, too; the notes beside clips may change."""
    if one.status == REJECTED:
        return Outcome(one.relative, REJECTED, one.note, seconds=one.seconds)
    sizes = {f"{name}.npy": (out / f"{name}.npy").stat().st_size for name in one.names}
    notes = {f"{name}.json": None for name in one.names}
    more = {
        "status": one.status,
        "note": one.note,
        "names": list(one.names),
        "files": {**sizes, **notes},
        "autoencoder": kind,
    }
    return Outcome(one.relative, DONE, seconds=one.seconds, more=more)


def _recording(row: Row) -> Recording:
    return Recording(Path(row.cells[_PATH]), row.id, row.cells.get(_CAPTION, ""))
