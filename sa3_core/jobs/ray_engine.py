"""The Ray engine: Ray Data hands buckets to actors that keep a model each."""

import json
import logging
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..errors import InputError
from .buckets import Bucket
from .local import MakerOf
from .outcome import Outcome
from .row import Row

ADDRESS = "RAY_ADDRESS"
_COLUMN = "bucket"  # and of what comes back


class _Actor:
    """A worker that Ray Data calls with a batch of one bucket."""

    def __init__(self, make: MakerOf) -> None:
        self._maker = make(0)  # Ray shows every actor the cards that are its own, as cuda:0

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        outcomes = [
            json.dumps(asdict(outcome))
            for text in batch[_COLUMN]
            for outcome in self._maker.run(_read(str(text)))
        ]
        return {_COLUMN: outcomes}


def run_ray(
    make: MakerOf, buckets: Sequence[Bucket], workers: int, gpus: float, threads: int | None
) -> Generator[Outcome, None, None]:
    """Make all buckets in actors; an actor that is lost is started anew by Ray.

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
        from ray.data import ActorPoolStrategy  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            "needs Ray, which is not installed. Run pip install '.[ray]', or use the local engine.",
            "engine",
        ) from None
    if not buckets:
        return
    stop = _connect(ray, workers * (threads or 1))
    try:
        data = ray.data.from_items([{_COLUMN: _written(bucket)} for bucket in buckets])
        made = data.repartition(len(buckets)).map_batches(
            _Actor,
            fn_constructor_args=(make,),
            compute=ActorPoolStrategy(size=min(workers, len(buckets))),
            batch_size=1,
            # of an actor that is lost, Ray gives the bucket to another
            num_cpus=threads or 1,
            num_gpus=gpus or None,
        )
        for entry in made.iter_rows():
            yield Outcome(**json.loads(entry[_COLUMN]))
    finally:
        stop()


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


def _written(bucket: Bucket) -> str:
    rows = [[row.id, row.line, dict(row.cells)] for row in bucket.rows]
    return json.dumps({"rows": rows, "frames": bucket.frames})


def _read(text: str) -> Bucket:
    given = json.loads(text)
    return Bucket(tuple(Row(*row) for row in given["rows"]), tuple(given["frames"]))
