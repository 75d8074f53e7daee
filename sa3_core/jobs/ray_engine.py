"""The Ray engine: Ray Data hands buckets to actors that keep a model each."""

import json
import logging
import os
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InputError
from .buckets import Bucket
from .local import MakerOf
from .outcome import FAILED, Outcome
from .row import Row

log = logging.getLogger(__name__)

ADDRESS = "RAY_ADDRESS"
_COLUMN = "task"  # and of what comes back
_LARGEST_TASK = 16  # buckets
_LEAST_TASKS = 64  # of each actor, before a task has more than one bucket


class _Actor:
    """A worker that Ray Data calls with the buckets of one task."""

    def __init__(self, make: MakerOf) -> None:
        self._maker = make(0)  # Ray shows every actor the cards that are its own, as cuda:0

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        outcomes = [
            json.dumps(asdict(outcome))
            for text in batch[_COLUMN]
            for bucket in _read(str(text))
            for outcome in self._maker.run(bucket)
        ]
        return {_COLUMN: outcomes}


@dataclass(frozen=True)
class _Actors:
    """What Ray is asked for.

    Attributes:
        make: picklable.
        count: actors.
        gpus: share of a GPU that each takes; 0 = none.
        cpus: that each takes.
    """

    make: MakerOf
    count: int
    gpus: float
    cpus: int

    def run(self, tasks: Sequence[Sequence[Bucket]], ahead: int | None) -> Iterator[Outcome]:
        """Outcomes as they come; of a task whose actor is lost there are none.

        Args:
            tasks: what is made at once.
            ahead: tasks that an actor is given at once; None = Ray's own number.
        """
        import ray  # pyright: ignore[reportMissingImports]
        from ray.data import ActorPoolStrategy  # pyright: ignore[reportMissingImports]

        items = [{_COLUMN: _written(task)} for task in tasks]
        size = min(self.count, len(items))
        with warnings.catch_warnings():
            # Ray 2.64 takes the last two away: the extra stays below it.
            warnings.filterwarnings("ignore", message="`ray_remote_args`")
            made = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
                _Actor,
                fn_constructor_args=(self.make,),
                compute=ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=ahead),
                batch_size=1,
                num_cpus=self.cpus,
                num_gpus=self.gpus or None,
                max_restarts=-1,
                max_task_retries=0,  # else a row that ends its actor is tried for ever
            )
        for entry in made.iter_rows():
            yield Outcome(**json.loads(entry[_COLUMN]))


def run_ray(
    make: MakerOf, buckets: Sequence[Bucket], workers: int, gpus: float, threads: int | None
) -> Generator[Outcome, None, None]:
    """Make all buckets in actors; one that is lost is started anew.

    Rows that a lost actor had are tried again one by one; one that is lost again is given up and
    said to have failed.

    Args:
        make: picklable.
        buckets: what to make.
        workers: actors.
        gpus: share of a GPU that each takes; 0 = none.
        threads: CPUs that each takes; None = one.

    Raises:
        InputError: Ray is not installed.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.data  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            "needs Ray, which is not installed. Run pip install '.[ray]', or use the local engine.",
            "engine",
        ) from None
    if not buckets:
        return
    actors = _Actors(make, workers, gpus, threads or 1)
    open_rows = {row.id for bucket in buckets for row in bucket.rows}
    stop = _connect(ray, workers * actors.cpus)
    context = ray.data.DataContext.get_current()
    errors = context.max_errored_blocks
    context.max_errored_blocks = -1  # tasks of actors that were lost; all others are heard
    try:
        for outcome in actors.run(list(tasks_of(buckets, workers)), None):
            open_rows.discard(outcome.id)
            yield outcome
        if open_rows:
            log.warning("Workers ended; %d rows are tried again one by one.", len(open_rows))
            again = [
                one for bucket in buckets for one in _each(bucket) if one.rows[0].id in open_rows
            ]
            for outcome in actors.run([[one] for one in again], 1):
                open_rows.discard(outcome.id)
                yield outcome
        for name in sorted(open_rows):
            yield Outcome(name, FAILED, "its worker ended twice")
    finally:
        context.max_errored_blocks = errors
        stop()


def tasks_of(buckets: Sequence[Bucket], workers: int) -> Iterator[Sequence[Bucket]]:
    """Buckets that go to an actor at once: of many, several, as a task costs Ray milliseconds."""
    size = max(1, min(_LARGEST_TASK, len(buckets) // (workers * _LEAST_TASKS)))
    for start in range(0, len(buckets), size):
        yield buckets[start : start + size]


def _each(bucket: Bucket) -> Iterator[Bucket]:
    for row, frames in zip(bucket.rows, bucket.frames, strict=True):
        yield Bucket((row,), (frames,))


def _connect(ray: Any, cpus: int) -> Callable[[], None]:
    """Join the cluster that RAY_ADDRESS names, else start one here; what to call at the end."""
    if ray.is_initialized():
        return lambda: None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports home
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if os.environ.get(ADDRESS):
        ray.init(**quiet)
    else:
        most = max(cpus + 1, os.cpu_count() or 1)  # one for Ray Data's own tasks
        ray.init(num_cpus=most, include_dashboard=False, **quiet)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.shutdown


def _written(task: Sequence[Bucket]) -> str:
    return json.dumps(
        [
            {
                "rows": [[row.id, row.line, dict(row.cells)] for row in bucket.rows],
                "frames": bucket.frames,
            }
            for bucket in task
        ]
    )


def _read(text: str) -> list[Bucket]:
    return [
        Bucket(tuple(Row(*row) for row in given["rows"]), tuple(given["frames"]))
        for given in json.loads(text)
    ]
