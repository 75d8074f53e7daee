"""What a job costs beside the model: the driver's time per row, and how long workers wait for it.

Rows go through the real engines. Some are made by writing a byte alone, so that the driver is all
there is; the others sleep for as long as the demo model takes for a clip, which is measured first.
A worker tells when it began and ended each row: what lies between is what scheduling takes of it.
"""

from __future__ import annotations

import csv
import itertools
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sa3_core.audio.formats import FORMATS
from sa3_core.audio.levels import Levels
from sa3_core.checkpoints.library import Library
from sa3_core.jobs.buckets import Bucket
from sa3_core.jobs.defaults import default_values
from sa3_core.jobs.local import MakerOf, run_here, run_processes
from sa3_core.jobs.manifest import read_manifest
from sa3_core.jobs.outcome import DONE, Outcome
from sa3_core.jobs.ray_engine import run_ray
from sa3_core.jobs.row import Row
from sa3_core.jobs.run import Engine, run_job
from sa3_core.jobs.spec import Computing, JobSpec, ModelFiles
from sa3_core.jobs.worker import worker_of
from tests.benchmarks.cases.options import BenchmarkError, Options

ROWS, QUICK_ROWS, WORKERS = 10_000, 24, 8
CLIP_SECONDS, CLIPS = 6.0, 7  # of the demo model, whose fastest counts
MOST = 0.02  # of a row's time
PARTS = ("manifest", "driver", "local", "ray")
ROOT = Path(__file__).resolve().parents[3]
HEAD = (
    *("rows", "workers", "wall s", "driver ms per row", "share"),
    *("worker's wait ms per row", "share", "first row after s"),
)


class Sleeper:
    """A maker that sleeps, writes a byte and tells when."""

    def __init__(self, out: Path, pause: float, number: int) -> None:
        self._out, self._pause = out, pause

    def run(self, bucket: Bucket) -> Iterator[Outcome]:
        """Its rows."""
        for row in bucket.rows:
            begin = time.monotonic()
            time.sleep(self._pause)
            path = self._out / f"{row.id}.bin"
            path.write_bytes(b"x")
            told = {"worker": os.getpid(), "begin": begin, "end": time.monotonic()}
            yield Outcome(row.id, DONE, file=path.name, bytes=1, more=told)


@dataclass(frozen=True)
class Run:
    """What a run of rows took, in seconds; the driver's of CPU time."""

    wall: float
    driver: float
    first: float
    waited: float


@dataclass(frozen=True)
class Bench:
    """Where rows are made and what they ask for.

    Attributes:
        folder: of the manifest and the results.
        model: the demo model's folder.
        rows: how many.
    """

    folder: Path
    model: Path
    rows: int

    @property
    def manifest(self) -> Path:
        """The rows as a file."""
        return self.folder / "rows.csv"

    def spec(self, out: str) -> JobSpec:
        """A job of the demo model."""
        defaults = default_values()
        defaults.model = "demo"
        return JobSpec(
            *(defaults, self.folder, self.folder / out, {"demo": ModelFiles(self.model)}, {}),
            *(FORMATS["flac-24"], Levels(), Computing(threads=1)),
        )

    def read(self) -> list[Row]:
        """The manifest's rows, checked."""
        return read_manifest(self.manifest, self.spec("unused").defaults, lambda _: ())

    def write(self) -> None:
        """The manifest."""
        with self.manifest.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(("prompt", "seconds", "seed"))
            table.writerows(("organ, 92 BPM", CLIP_SECONDS, n) for n in range(self.rows))


def clip_time(bench: Bench) -> float:
    """Seconds that one thread takes for a clip of the demo model and its file; the fastest."""
    spec = bench.spec("clips")
    spec.out.mkdir()
    worker = worker_of(spec, 0)
    took = []
    for row in bench.read()[:CLIPS]:
        begin = time.perf_counter()
        (outcome,) = worker.run(Bucket((row,), (1,)))
        took.append(time.perf_counter() - begin)
        assert outcome.outcome == DONE, outcome.error
    worker.close()
    return min(took)


def measured(
    bench: Bench, out: str, engine: Callable[[MakerOf], Engine], pause: float, resume: bool = False
) -> Run:
    """Run the rows, with what the workers said of their waiting."""
    spec, rows = bench.spec(out), bench.read()
    spans: dict[int, list[tuple[float, float]]] = defaultdict(list)

    def told(done: int, total: int, outcome: Outcome) -> None:
        more = outcome.more
        spans[more["worker"]].append((more["begin"], more["end"]))

    begin, driver = time.monotonic(), time.process_time()
    summary = run_job(spec, rows, engine(partial(Sleeper, spec.out, pause)), resume, told)
    wall, driver = time.monotonic() - begin, time.process_time() - driver
    assert summary.made + summary.kept == len(rows), str(summary)
    first = min((span[0][0] for span in spans.values()), default=begin) - begin
    return Run(wall, driver, first, waited(spans.values()))


def waited(spans: Iterable[list[tuple[float, float]]]) -> float:
    """Seconds between the rows of each worker, all workers together."""
    pairs = (pair for one in spans for pair in itertools.pairwise(sorted(one)))
    return sum(later[0] - sooner[1] for sooner, later in pairs)


def here(make: MakerOf) -> Engine:
    """In this process."""
    return partial(run_here, make)


def processes(make: MakerOf) -> Engine:
    """The local engine."""
    return partial(run_processes, make, workers=WORKERS)


def actors(make: MakerOf) -> Engine:
    """Ray on this machine."""
    return partial(run_ray, make, workers=WORKERS, gpus=0, threads=None)


class Table:
    """What was measured, a line per part; shares are of a clip's time."""

    def __init__(self, rows: int, clip: float) -> None:
        self._rows, self._clip = rows, clip
        self._lines = [
            f"# Scale: {rows} rows of {CLIP_SECONDS:g} s; the demo model takes {clip:.2f} s of one "
            f"thread for each; {os.cpu_count()} cores",
            "",
            f"| {' | '.join(HEAD)} |",
            "|---" * len(HEAD) + "|",
        ]
        self.above: list[str] = []

    def add(self, name: str, run: Run, workers: int = 1) -> None:
        """A line of a run; waiting is told where there are workers."""
        driver, waited = run.driver / self._rows, run.waited / self._rows
        told = [f"{run.wall:.0f}", *self._shared(driver), "", "", ""]
        if workers > 1:
            told[-3:] = [*self._shared(waited), f"{run.first:.0f}"]
            self.above += [name] if max(driver, waited) > MOST * self._clip else []
        self._lines.append(f"| {name} | {workers} | {' | '.join(told)} |")

    def _shared(self, seconds: float) -> tuple[str, str]:
        return f"{1000 * seconds:.3f}", f"{seconds / self._clip:.3%}"

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"


def reading(bench: Bench) -> Run:
    """The manifest alone."""
    begin, driver = time.monotonic(), time.process_time()
    assert len(bench.read()) == bench.rows
    return Run(time.monotonic() - begin, time.process_time() - driver, 0.0, 0.0)


def run(options: Options) -> str:
    """Make the rows in every way; a table, and an error above MOST."""
    # Ray's actors import this module as the driver does.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        (str(ROOT), *filter(None, (os.environ.get("PYTHONPATH"),)))
    )
    parts = options.only or PARTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = Library.from_models_dir(folder).resolve("demo", "model")
        bench = Bench(folder, model, options.rows or (QUICK_ROWS if options.quick else ROWS))
        bench.write()
        clip = clip_time(bench)
        pause = 0.01 if options.quick else clip
        table = Table(bench.rows, clip)
        if "manifest" in parts:
            table.add("read and checked alone", reading(bench))
        if "driver" in parts:
            table.add("of no time, in one process", measured(bench, "none", here, 0))
            table.add("all there already: resuming", measured(bench, "none", here, 0, True))
            table.add("of no time, local engine", measured(bench, "p", processes, 0), WORKERS)
        if "local" in parts:
            table.add(
                f"of {pause:.2f} s, local engine", measured(bench, "l", processes, pause), WORKERS
            )
        if "ray" in parts:
            table.add(f"of {pause:.2f} s, Ray", measured(bench, "r", actors, pause), WORKERS)
    if table.above and not options.quick:
        raise BenchmarkError(f"more than {MOST:.0%} in {', '.join(table.above)}", str(table))
    return str(table)
