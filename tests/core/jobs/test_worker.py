"""A worker's batches: they grow to what memory allows and shrink instead of failing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sa3_core.audio.formats import FORMATS
from sa3_core.audio.levels import Levels
from sa3_core.files import whole_file
from sa3_core.jobs import worker as worker_module
from sa3_core.jobs.buckets import bucket_rows
from sa3_core.jobs.defaults import default_values
from sa3_core.jobs.memory import is_out_of_memory
from sa3_core.jobs.row import Row
from sa3_core.jobs.spec import Computing, JobSpec
from sa3_core.jobs.worker import Worker
from sa3_core.pieces import Take
from tests.helpers.support import ROOT


class Studio:
    """Makes silence of a sample, as long as a batch has no more frames than fit."""

    def __init__(self, fits: float) -> None:
        self._fits, self.sizes = fits, list[int]()

    def takes(self, values):
        self.sizes.append(len(values.prompt))
        if len(values.prompt) * max(values.seconds) > self._fits:
            raise MemoryError
        return [Take(torch.zeros(2, 1), 44100, seed) for seed in values.seed]

    def close(self) -> None:
        """Nothing to undo."""


@pytest.fixture
def run(tmp_path):
    """run(fits, seconds of rows) -> (sizes of the batches tried, outcomes)."""

    def runner(fits, seconds):
        rows = [Row(f"r{n}", n, {"prompt": "x", "seconds": str(s)}) for n, s in enumerate(seconds)]
        spec = JobSpec(
            *(default_values(), Path(), tmp_path, {}, {}, FORMATS["wav-32f"], Levels()),
            computing=Computing(batch=None),
        )
        studio = Studio(fits)
        worker = Worker(spec, studio)
        buckets = bucket_rows([(row, spec.values(row)) for row in rows], 32)
        made = [outcome for bucket in buckets for outcome in worker.run(bucket)]
        return studio.sizes, made

    return runner


def test_batches_double_while_memory_allows(run):
    sizes, made = run(10_000, [10] * 64)
    assert sizes == [4, 8, 16, 4, 32]  # the bucket of 32 rows ends at its fourth batch
    assert len(made) == 64


def test_a_batch_that_does_not_fit_is_halved_and_shorter_rows_still_go_together(run):
    sizes, made = run(100, [5] * 32 + [20] * 32)
    assert all(outcome.outcome == "done" for outcome in made)
    assert len(made) == 64
    # By then a batch of 16 of the short ones has gone well; 32 of the long ones are halved to fit.
    assert max(sizes) >= 16
    assert sizes[-1] < 16
    assert 1 not in sizes  # 100 s hold five rows of 20 s


def test_a_row_that_does_not_fit_alone_fails_and_the_rest_goes_on(run):
    _, made = run(50, [10] * 8 + [60])
    assert [outcome.outcome for outcome in made].count("done") == 8
    (failed,) = (outcome for outcome in made if outcome.outcome == "failed")
    assert (failed.id, failed.error) == ("r8", "out of memory")


def test_memory_that_is_used_up_while_writing_has_the_row_made_alone(run, monkeypatch):
    """The other takes of its batch held what it lacked."""
    real, asked = worker_module.write_audio, []

    def write(path, *rest):
        asked.append(path.stem)
        if path.stem in ("r1", "r3") and asked.count(path.stem) == 1:
            raise MemoryError
        return real(path, *rest)

    monkeypatch.setattr(worker_module, "write_audio", write)
    sizes, made = run(1000, [1] * 9)
    assert sizes == [4, 1, 1, 2, 2, 1]  # half of what was too much at once is taken to fit
    assert [outcome.outcome for outcome in made] == ["done"] * 9
    assert sorted(outcome.id for outcome in made) == [f"r{n}" for n in range(9)]


def test_a_disk_that_is_full_for_one_row_costs_that_row(run, monkeypatch, tmp_path):
    real = whole_file.os.replace

    def replaced(source, target):
        if Path(target).name == "r1.wav":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(whole_file.os, "replace", replaced)
    _, made = run(100, [1, 1, 1])
    assert [outcome.outcome for outcome in made] == ["done", "failed", "done"]
    assert "the disk is full" in made[1].error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r0.wav", "r2.wav"]


LIMITED = """
import resource, torch
from sa3_core.jobs.memory import is_out_of_memory
torch.set_num_threads(1)
torch.ones(1)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 300_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
rows = 16
while True:
    try:
        torch.zeros(rows, 25_000_000)
    except Exception as error:
        assert is_out_of_memory(error), error
        rows //= 2
    else:
        break
print(rows)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's here")
def test_memory_that_is_really_used_up_is_told_from_other_failures():
    """A process of 300 MB more: 16 rows of 100 MB are halved until two fit."""
    command = [sys.executable, "-c", LIMITED]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.strip()) == (0, "2"), ran.stderr


WORKER = """
import logging, resource, sys
from pathlib import Path
import torch
from sa3_core.audio.formats import FORMATS
from sa3_core.audio.levels import Levels
from sa3_core.jobs.buckets import Bucket, bucket_rows
from sa3_core.jobs.defaults import default_values
from sa3_core.jobs.row import Row
from sa3_core.jobs.spec import Computing, JobSpec, ModelFiles
from sa3_core.jobs.worker import worker_of
out, model = map(Path, sys.argv[1:])
logging.basicConfig(format="%(message)s")
defaults = default_values()
defaults.model, defaults.steps = "m", 2
models, computing = {"m": ModelFiles(model)}, Computing(dtype=torch.float32, threads=1, batch=16)
spec = JobSpec(defaults, out, out, models, {}, FORMATS["wav-16"], Levels(), computing)
cells = [{"prompt": "x", "seconds": "5", "seed": f"{n}"} for n in range(17)]
rows = [Row(f"r{n}", n, cell) for n, cell in enumerate(cells)]
worker = worker_of(spec, 0)
print(*(one.outcome for one in worker.run(Bucket((rows[0],), (1,)))))  # the model is loaded
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 30_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
(bucket,) = bucket_rows([(row, spec.values(row)) for row in rows[1:]], 16)
print(*(one.outcome for one in worker.run(bucket)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's here")
def test_a_worker_whose_memory_is_really_used_up_halves_its_batch(tmp_path, tiny_s):
    """30 MB more than a clip took, and the sound of 16 clips alone is 28 MB: every row comes out.

    Rows came out as failed where a batch that had not fitted was still held by its error.
    """
    command = [sys.executable, "-c", WORKER, tmp_path, tiny_s]
    ran = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout.split() == ["done"] * 17, ran.stderr
    assert "Out of memory with 16 rows at once; going on with 8." in ran.stderr
    assert len(list(tmp_path.glob("*.wav"))) == 17


@pytest.mark.parametrize("said", ["can't allocate memory", "not enough memory"])
def test_torch_says_it_in_two_ways_on_two_systems(said):
    """Linux and Windows."""
    assert is_out_of_memory(RuntimeError(f"DefaultCPUAllocator: {said}: you tried to allocate 8"))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
