"""A row's file is the same to the bit whatever engine, order, workers and interruptions made it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from sa3_core.audio.file import read_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.audio.levels import Levels
from sa3_core.cli.arguments import build_parser
from sa3_core.jobs.local import run_here, run_processes
from sa3_core.jobs.ray_engine import run_ray
from sa3_core.jobs.row import Row
from sa3_core.jobs.run import run_job
from sa3_core.jobs.spec import Computing, JobSpec, ModelFiles
from sa3_core.jobs.worker import worker_of
from tests.helpers.support import ROOT, rel_l2

COMPUTING = Computing(dtype=torch.float32, threads=1)  # auto is the CPU's choice


class StopError(Exception):
    """What interrupts a run."""


def make_rows(count: int) -> list[Row]:
    cells = [{"prompt": f"sound {n}", "seconds": f"{0.2 + 0.05 * (n % 4)}"} for n in range(count)]
    return [Row(f"r{n}", n, {**cell, "cfg": f"{1 + n % 2}"}) for n, cell in enumerate(cells)]


@pytest.fixture
def run(tmp_path, tiny_s):
    """run("name", rows, engine) -> bytes of every file; interrupted after every `stop` rows.

    More settings are Computing's.
    """
    flags = ["generate", "--model", "m", "--out", "o", "--steps", "2"]
    defaults = build_parser().parse_args(flags)

    def runner(name, rows, engine=run_here, stop=0, **ways):
        spec = JobSpec(
            defaults=defaults,
            folder=tmp_path,
            out=tmp_path / name,
            models={"m": ModelFiles(tiny_s)},
            loras={},
            audio_format=FORMATS["wav-32f"],
            levels=Levels(),
            computing=replace(COMPUTING, **ways),
        )

        def told(done, total, outcome):
            if stop and done == stop and total > stop:
                raise StopError

        made = partial(engine, partial(worker_of, spec))
        for number in range(len(rows)):
            try:
                run_job(spec, rows, made, number > 0, told)
            except StopError:
                continue
            break
        return {path.name: path.read_bytes() for path in spec.out.glob("*.wav")}

    return runner


def test_order_and_interruptions_change_nothing(run):
    rows = make_rows(8)
    straight = run("straight", rows)
    assert len(straight) == 8
    assert run("turned", rows[::-1], stop=3) == straight


TWO_THREADS = pytest.param({"threads": 2}, marks=pytest.mark.soak)


@pytest.mark.parametrize("ways", [{"batch": 4}, {"batch": None}, TWO_THREADS], ids=str)
def test_other_batches_and_threads_are_within_rounding(run, tmp_path, ways):
    """Closer without guidance, which half of the rows have."""
    rows = make_rows(8)
    straight = run("straight", rows)
    assert run("other", rows, **ways).keys() == straight.keys()
    for row in rows:
        one, other = (
            read_audio(tmp_path / name / f"{row.id}.wav")[0] for name in ("straight", "other")
        )
        assert rel_l2(other, one) < (1e-5 if row.cells["cfg"] == "1" else 5e-5), row


@pytest.mark.soak
def test_engines_and_workers_change_nothing(run, monkeypatch):
    rows = make_rows(64)
    straight = run("straight", rows)
    assert len(straight) == len(rows)
    assert run("stopped", rows, stop=6) == straight
    assert run("two", rows, partial(run_processes, workers=2), stop=20) == straight
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    actors = partial(run_ray, workers=2, gpus=0, threads=None)
    assert run("ray", rows, actors, stop=40) == straight
