"""The local engine: buckets made in this process, or by several that are spawned."""

import logging
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from .buckets import Bucket
from .outcome import FAILED, Outcome
from .row import Row
from .worker import Maker

log = logging.getLogger(__name__)

MakerOf = Callable[[int], Maker]  # of worker 0, 1, ...; must be picklable for several processes
_END = None  # instead of an outcome: the bucket is done
_DEATHS = 2  # of workers, after which a row is given up


def run_here(make: MakerOf, buckets: Sequence[Bucket]) -> Generator[Outcome, None, None]:
    """Make all buckets in this process."""
    threads = torch.get_num_threads()
    maker = make(0)
    try:
        for bucket in buckets:
            yield from maker.run(bucket)
    finally:
        torch.set_num_threads(threads)
        close = getattr(maker, "close", None)
        if close is not None:
            close()


@dataclass(eq=False)
class _Process:
    """A worker's process and what it is at."""

    number: int
    process: BaseProcess
    pipe: Connection
    bucket: Bucket | None = None
    open_rows: list[Row] | None = None


def run_processes(
    make: MakerOf, buckets: Sequence[Bucket], workers: int
) -> Generator[Outcome, None, None]:
    """Make all buckets in processes of their own; one that is killed is replaced.

    Rows that a killed worker had not finished are tried again one by one; one that kills two is
    given up and said to have failed.

    Args:
        make: picklable.
        buckets: what to make.
        workers: number of processes.
    """
    pool = _Pool(make, buckets, min(workers, len(buckets)))
    try:
        yield from pool.run()
    finally:
        pool.stop()


class _Pool:
    def __init__(self, make: MakerOf, buckets: Sequence[Bucket], workers: int) -> None:
        self._make, self._waiting = make, deque(buckets)
        self._context = multiprocessing.get_context("spawn")
        self._deaths: dict[str, int] = {}
        self._running = [self._start(number) for number in range(workers)]

    def run(self) -> Iterator[Outcome]:
        """Outcomes as they come."""
        while True:
            for one in self._running:
                if one.bucket is None and self._waiting:
                    self._give(one, self._waiting.popleft())
            busy = [one for one in self._running if one.bucket is not None]
            if not busy:
                return
            ready = wait([one.pipe for one in busy])
            for one in busy:
                if one.pipe in ready:
                    yield from self._receive(one)

    def stop(self) -> None:
        """End all processes."""
        for one in self._running:
            one.pipe.close()
            if one.bucket is not None:
                one.process.terminate()
        for one in self._running:
            one.process.join(10)
            if one.process.is_alive():
                one.process.kill()
                one.process.join()

    def _start(self, number: int) -> _Process:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(self._make, number, theirs), daemon=True
        )
        process.start()
        theirs.close()
        return _Process(number, process, ours)

    def _give(self, one: _Process, bucket: Bucket) -> None:
        one.bucket, one.open_rows = bucket, list(bucket.rows)
        with suppress(OSError):  # it has died: receiving tells
            one.pipe.send(bucket)

    def _receive(self, one: _Process) -> Iterator[Outcome]:
        try:
            outcome = one.pipe.recv()
        except (EOFError, OSError):
            yield from self._bury(one)
            return
        if outcome is _END:
            one.bucket = one.open_rows = None
        else:
            one.open_rows = [row for row in one.open_rows or () if row.id != outcome.id]
            yield outcome

    def _bury(self, one: _Process) -> Iterator[Outcome]:
        """Replace a worker that has ended; its rows go back."""
        one.process.join()
        code = one.process.exitcode
        left = one.open_rows or []
        log.warning("Worker %d ended (%s); another takes over.", one.number + 1, _why(code))
        for row in left:
            # Of a batch only the first is suspected: the others were waiting for it.
            self._deaths[row.id] = self._deaths.get(row.id, 0) + (row is left[0])
            if self._deaths[row.id] >= _DEATHS:
                yield Outcome(row.id, FAILED, f"its worker ended twice ({_why(code)})")
            else:
                self._waiting.appendleft(_alone(one.bucket, row))
        one.pipe.close()
        self._running[self._running.index(one)] = self._start(one.number)


def _alone(bucket: Bucket | None, row: Row) -> Bucket:
    assert bucket is not None
    return Bucket((row,), (bucket.frames[bucket.rows.index(row)],))


def _why(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


def _serve(make: MakerOf, number: int, pipe: Connection) -> None:
    """The life of a worker's process; it ends with the driver's end of the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    maker = make(number)
    with suppress(EOFError, OSError):
        while True:
            for outcome in maker.run(pipe.recv()):
                pipe.send(outcome)
            pipe.send(_END)
