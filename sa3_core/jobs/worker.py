"""A worker: one model in memory, one bucket of rows after the other."""

import copy
import gc
import logging
import math
from argparse import Namespace as Values
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Protocol

import torch

from ..audio.file import write_audio
from ..audio.levels import set_levels
from ..audio.loudness import measure
from ..audio.waveform import peak
from ..errors import SA3Error
from ..files.names import system_failure
from ..pieces import Take
from .buckets import LARGEST, Bucket
from .decoding import Decoding
from .fields import COLUMNS, DECODE, GENERATE
from .generating import Generating
from .memory import is_out_of_memory
from .outcome import DONE, FAILED, Outcome
from .row import Row, seconds_of
from .spec import JobSpec

log = logging.getLogger(__name__)

_FULL = "out of memory"  # a row's error
_FIRST_BATCH = 4  # of `auto`; it doubles while memory allows


class Maker(Protocol):
    """What makes the rows of a bucket."""

    def run(self, bucket: Bucket) -> Iterator[Outcome]:
        """One outcome per row, as soon as it is known."""
        ...


class Studio(Protocol):
    """What makes the sounds: nets of this process, or a host's."""

    def takes(self, values: Values) -> Sequence[Take]:
        """What one row, or a batch of rows put together, asks for."""
        ...

    def close(self) -> None:
        """Leave the nets as they were found."""
        ...


class Worker:
    """Makes rows into files, as many at once as memory allows."""

    def __init__(self, spec: JobSpec, studio: Studio) -> None:
        """Set the threads; nothing is loaded yet."""
        self._spec, self._studio = spec, studio
        self._size = spec.computing.batch or _FIRST_BATCH
        self._grows = spec.computing.batch is None
        self._room: int | None = None  # latent frames that one batch may have; None = not known
        if spec.computing.threads is not None:
            torch.set_num_threads(spec.computing.threads)

    def run(self, bucket: Bucket) -> Iterator[Outcome]:
        """Make the rows of a bucket; a row that fails stops no other."""
        waiting = list(zip(bucket.rows, bucket.frames, strict=True))
        while waiting:
            part = self._first(waiting)
            rows = [row for row, _ in part]
            takes, error = self._tried(rows)
            if error is not None and len(part) > 1 and is_out_of_memory(error):
                self._shrink(part)
                continue
            again: list[Row] = []
            if error is None:
                again = yield from self._all_written(rows, takes)
            elif len(part) == 1:
                yield failure_of(rows[0], error)
            else:  # one of them, or all: each says it for itself
                again = rows
            takes = ()  # else they take memory from what is next
            if again and error is None:
                self._shrink(part)
            for row in again:
                yield from self._alone(row)
            del waiting[: len(part)]
            if self._grows and error is None and len(part) == self._size:
                self._size = min(2 * self._size, LARGEST)

    def close(self) -> None:
        """Leave the nets as they were found."""
        self._studio.close()

    def _first(self, waiting: list[tuple[Row, int]]) -> list[tuple[Row, int]]:
        """The rows of the next batch; rows wait in the order of their lengths."""
        part = waiting[: self._size]
        while self._room is not None and len(part) > 1 and _frames(part) > self._room:
            part.pop()
        return part

    def _alone(self, row: Row) -> Iterator[Outcome]:
        takes, error = self._tried([row])
        yield self._written(row, takes[0]) if error is None else failure_of(row, error)

    def _shrink(self, part: list[tuple[Row, int]]) -> None:
        """Half of what was too much is taken to fit; shorter clips may still be more at once."""
        self._room = _frames(part) // 2
        fits = len(self._first(part))
        log.warning("Out of memory with %d rows at once; going on with %d.", len(part), fits)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _tried(self, rows: Sequence[Row]) -> tuple[Sequence[Take], Exception | None]:
        """What rows ask for, or why not, without the frames that hold what filled the memory."""
        try:
            values = together([self._spec.values(row) for row in rows])
            return self._studio.takes(values), None
        except Exception as error:
            error.__cause__ = error.__context__ = None
            return (), error.with_traceback(None)

    def _all_written(
        self, rows: Sequence[Row], takes: Sequence[Take]
    ) -> Generator[Outcome, None, list[Row]]:
        """Outcomes; the rows that are to be made alone, as what others hold left too little."""
        again = []
        for row, take in zip(rows, takes, strict=True):
            outcome = self._written(row, take)
            if outcome.error == _FULL and len(rows) > 1:
                again.append(row)
            else:
                yield outcome
        return again

    def _written(self, row: Row, take: Take) -> Outcome:
        spec = self._spec
        try:
            clips = spec.audio_format.max_peak is not None
            audio, said = set_levels(take.audio, take.sample_rate, spec.levels, clips)
            if said:
                log.info("%s: %s.", row.id, ", ".join(said))
            path = spec.out / f"{row.id}{spec.audio_format.suffix}"
            report = write_audio(path, audio, take.sample_rate, spec.audio_format)
            lufs = measure(audio, take.sample_rate).lufs
            return Outcome(
                id=row.id,
                outcome=DONE,
                file=report.path.name,
                bytes=report.path.stat().st_size,
                seconds=audio.shape[-1] / take.sample_rate,
                sample_rate=take.sample_rate,
                peak=float(peak(audio)),
                lufs=lufs if math.isfinite(lufs) else None,
                seed=take.seed,
            )
        except Exception as error:
            return failure_of(row, error)


_STUDIOS = {GENERATE: Generating, DECODE: Decoding}


def worker_of(spec: JobSpec, number: int) -> Worker:
    """Worker `number` of a job: workers take turns on the CUDA devices of this machine."""
    spec = spec.on(device_of(spec.computing.device, number))
    return Worker(spec, _STUDIOS[spec.work](spec))


def device_of(device: str, number: int) -> str:
    """The device of worker `number`: of several CUDA cards each gets one."""
    return f"cuda:{number % torch.cuda.device_count()}" if device == "cuda" else device


def _frames(part: Sequence[tuple[Row, int]]) -> int:
    """Latent frames of a batch, padding included."""
    return len(part) * max(frames for _, frames in part)


def together(values: Sequence[Values]) -> Values:
    """The values of a batch: those of its first row, texts, lengths and seeds one per row."""
    if len(values) == 1:
        return values[0]
    first = copy.copy(values[0])
    for name in ("prompt", "negative", "seed"):
        lists: list[Any] = [getattr(one, name) or () for one in values]
        setattr(first, name, [item for items in lists for item in items] or None)
    if not COLUMNS[GENERATE].has_source(first):
        first.bars, first.seconds = None, [seconds_of(one) for one in values]
    return first


def failure_of(row: Row, error: Exception) -> Outcome:
    """What the results say of a row that could not be made."""
    if is_out_of_memory(error):
        text = _FULL
    elif isinstance(error, OSError) and not isinstance(error, SA3Error):
        text = system_failure(error)
    else:
        text = str(error) if isinstance(error, SA3Error) else f"{type(error).__name__}: {error}"
    return Outcome(row.id, FAILED, " ".join(text.split()))
