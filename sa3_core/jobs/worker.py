"""A worker: one model in memory, one bucket of rows after the other."""

import copy
import logging
import math
from argparse import Namespace as Values
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import torch

from ..adapters.loading import load_adapters
from ..adapters.switch import AdapterSwitch
from ..audio.file import write_audio
from ..audio.levels import set_levels
from ..audio.loudness import measure
from ..audio.waveform import peak
from ..errors import SA3Error
from ..files.names import system_failure
from ..pipeline import Pipeline, Take, extend, generate, load_pipeline
from .buckets import LARGEST, Bucket
from .memory import is_out_of_memory
from .outcome import DONE, FAILED, Outcome
from .request import extension_of, read_source, request_of
from .row import Row, digest_of, has_source, seconds_of
from .spec import JobSpec

log = logging.getLogger(__name__)

_FIRST_BATCH = 4  # of `auto`; it doubles while memory allows


class Maker(Protocol):
    """What makes the rows of a bucket."""

    def run(self, bucket: Bucket) -> Iterator[Outcome]:
        """One outcome per row, as soon as it is known."""
        ...


class Worker:
    """Makes rows into files; keeps the last model and its LoRAs loaded."""

    def __init__(self, spec: JobSpec) -> None:
        """Set the threads; nothing is loaded yet."""
        self._spec = spec
        self._size = spec.computing.batch or _FIRST_BATCH
        self._grows = spec.computing.batch is None
        self._loaded: tuple[str, Pipeline] | None = None
        self._adapted: tuple[str, AdapterSwitch | None] | None = None
        self._entered = ExitStack()
        if spec.computing.threads is not None:
            torch.set_num_threads(spec.computing.threads)

    def run(self, bucket: Bucket) -> Iterator[Outcome]:
        """Make the rows of a bucket; a row that fails stops no other."""
        waiting = list(bucket.rows)
        while waiting:
            part = waiting[: self._size]
            try:
                takes = self._takes(part)
            except Exception as error:
                if len(part) == 1:
                    yield _failure(part[0], error)
                    del waiting[:1]
                elif is_out_of_memory(error):
                    self._shrink(len(part))
                else:  # one of them, or all: each says it for itself
                    for row in part:
                        yield from self._alone(row)
                    del waiting[: len(part)]
                continue
            for row, take in zip(part, takes, strict=True):
                yield self._written(row, take)
            del waiting[: len(part)]
            if self._grows and len(part) == self._size:
                self._size = min(2 * self._size, LARGEST)

    def close(self) -> None:
        """Take the LoRAs out of the model."""
        self._entered.close()
        self._adapted = None

    def _alone(self, row: Row) -> Iterator[Outcome]:
        try:
            (take,) = self._takes([row])
        except Exception as error:
            yield _failure(row, error)
        else:
            yield self._written(row, take)

    def _shrink(self, failed: int) -> None:
        self._size, self._grows = max(1, failed // 2), False
        log.warning("Out of memory with %d rows at once; going on with %d.", failed, self._size)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _takes(self, rows: Sequence[Row]) -> tuple[Take, ...]:
        spec, computing = self._spec, self._spec.computing
        values = _together([row.values(spec.defaults, spec.folder) for row in rows])
        pipeline = self._pipeline(values.model)
        switch = self._switch(pipeline, values)
        request = request_of(values)
        if values.extend_audio:
            source = read_source(values.extend_audio)
            extension = extension_of(values)
            return extend(pipeline, request, source, extension, computing.chunk, switch)
        return generate(pipeline, request, computing.chunk, computing.noise_seed, switch).takes

    def _pipeline(self, name: str) -> Pipeline:
        if self._loaded is None or self._loaded[0] != name:
            self.close()
            self._loaded = None  # frees the memory before the next takes some
            files, computing = self._spec.models[name], self._spec.computing
            pipeline = load_pipeline(
                files.model,
                files.text_encoder,
                files.autoencoder,
                computing.objective,
                computing.dtype,
                computing.device,
                computing.storage,
            )
            self._loaded = (name, pipeline)
        return self._loaded[1]

    def _switch(self, pipeline: Pipeline, values: Values) -> AdapterSwitch | None:
        uses = [use.with_lora(self._spec.loras[use.lora]) for use in values.lora or ()]
        key = digest_of([values.model, uses])
        if self._adapted is None or self._adapted[0] != key:
            self.close()
            switch = None
            if uses:
                built = load_adapters(self._spec.models[values.model].model, uses)
                switch = self._entered.enter_context(AdapterSwitch(pipeline.model, built))
            self._adapted = (key, switch)
        return self._adapted[1]

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
            return _failure(row, error)


def worker_of(spec: JobSpec, number: int) -> Worker:
    """Worker `number` of a job: workers take turns on the CUDA devices of this machine."""
    if spec.computing.device == "cuda":
        return Worker(spec.on(f"cuda:{number % torch.cuda.device_count()}"))
    return Worker(spec)


def _together(values: Sequence[Values]) -> Values:
    """The values of a batch: those of its first row, texts, lengths and seeds one per row."""
    if len(values) == 1:
        return values[0]
    together = copy.copy(values[0])
    for name in ("prompt", "negative", "seed"):
        lists: list[Any] = [getattr(one, name) or () for one in values]
        setattr(together, name, [item for items in lists for item in items] or None)
    if not has_source(together):
        together.bars, together.seconds = None, [seconds_of(one) for one in values]
    return together


def _failure(row: Row, error: Exception) -> Outcome:
    if is_out_of_memory(error):
        text = "out of memory"
    elif isinstance(error, OSError) and not isinstance(error, SA3Error):
        text = system_failure(error)
    else:
        text = str(error) if isinstance(error, SA3Error) else f"{type(error).__name__}: {error}"
    return Outcome(row.id, FAILED, " ".join(text.split()))
