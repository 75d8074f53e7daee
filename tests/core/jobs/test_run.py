"""Whatever happens, what is done stays and the rest goes on."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path

import pytest

from sa3_core.audio.formats import FORMATS
from sa3_core.audio.levels import Levels
from sa3_core.cli.arguments import build_parser
from sa3_core.errors import InputError
from sa3_core.files.lock import only_one
from sa3_core.jobs import outcome as outcome_module
from sa3_core.jobs.local import run_here, run_processes
from sa3_core.jobs.outcome import read_results
from sa3_core.jobs.row import Row
from sa3_core.jobs.run import run_job
from sa3_core.jobs.spec import JobSpec
from tests.helpers.job_makers import FakeMaker

ROWS = [Row(name, n, {"prompt": name}) for n, name in enumerate("abcdefgh", 2)]


@pytest.fixture
def spec(tmp_path):
    defaults = build_parser().parse_args(["generate", "--model", "m", "--out", "o"])
    out = tmp_path / "out"
    return JobSpec(defaults, tmp_path, out, {}, {}, FORMATS["flac-24"], Levels())


def here(spec, **ways):
    return partial(run_here, partial(FakeMaker, spec.out, **ways))


def results(spec) -> list[dict]:
    return [json.loads(line) for line in (spec.out / "manifest.jsonl").read_text().splitlines()]


def test_interrupted_after_every_row_and_resumed(spec):
    """The same files and lines as without an interruption, each row made once."""

    class StopError(Exception):
        pass

    def stop(done, total, outcome):
        raise StopError

    for number in range(len(ROWS)):
        with pytest.raises(StopError):
            run_job(spec, ROWS, here(spec), number > 0, stop)
    summary = run_job(spec, ROWS, here(spec), True)
    assert (summary.made, summary.kept, summary.failed) == (0, 8, ())
    assert [line["id"] for line in results(spec)] == list("abcdefgh")
    assert (spec.out / "runs").read_text() == "abcdefgh"


def test_a_torn_line_costs_its_row_alone(spec):
    run_job(spec, ROWS, here(spec))
    path = spec.out / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    summary = run_job(spec, ROWS, here(spec), True)
    assert (summary.made, summary.kept) == (1, 7)
    assert len(results(spec)) == 8


def test_failed_rows_are_tried_again_and_told(spec):
    summary = run_job(spec, ROWS, here(spec, failing="cf"))
    assert [line["id"] for line in summary.failed] == ["c", "f"]
    assert str(summary) == "6 made, 0 kept, 2 failed"
    assert str(run_job(spec, ROWS, here(spec), True)) == "2 made, 6 kept, 0 failed"


def test_two_runs_on_one_folder_refuse(spec):
    spec.out.mkdir()
    with only_one(spec.out), pytest.raises(InputError, match="in use by another process"):
        run_job(spec, ROWS, here(spec))
    assert [path.name for path in spec.out.iterdir()] == [".in-use"]


def test_a_full_disk_costs_the_line_and_not_the_run(spec, monkeypatch, caplog):
    """Lines that could not be added are written with all others at the end."""
    real, full = Path.open, []

    def opened(self, mode="r", *rest, **named):
        if self.name == outcome_module.RESULTS and mode == "ab" and not full:
            full.append(self)
            raise OSError(28, "No space left on device")
        return real(self, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", opened)
    assert str(run_job(spec, ROWS, here(spec))) == "8 made, 0 kept, 0 failed"
    assert "the disk is full" in caplog.text
    assert [line["outcome"] for line in read_results(spec.out / "manifest.jsonl")] == ["done"] * 8


KILLS = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")


@KILLS
def test_a_killed_worker_is_replaced(spec):
    engine = partial(run_processes, partial(FakeMaker, spec.out, killing_once="b"), workers=1)
    summary = run_job(spec, ROWS, engine)
    assert (summary.made, summary.failed) == (8, ())
    assert sorted((spec.out / "runs").read_text()) == list("abcdefgh")


@KILLS
@pytest.mark.soak
def test_a_row_that_kills_two_workers_is_given_up(spec):
    make = partial(FakeMaker, spec.out, killing_once="b", killing="e")
    summary = run_job(spec, ROWS, partial(run_processes, make, workers=2))
    assert (summary.made, [line["id"] for line in summary.failed]) == (7, ["e"])
    assert summary.failed[0]["error"] == "its worker ended twice (SIGKILL)"
