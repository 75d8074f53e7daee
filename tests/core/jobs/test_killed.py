"""Real processes that are really killed: what was made stays, the rest is made by the next run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.support import ROOT

DRIVER = """
import sys
from functools import partial
from pathlib import Path
from sa3_core.audio.formats import FORMATS
from sa3_core.audio.levels import Levels
from sa3_core.jobs.defaults import default_values
from sa3_core.jobs.local import run_here, run_processes
from sa3_core.jobs.row import Row
from sa3_core.jobs.run import run_job
from sa3_core.jobs.spec import JobSpec
from tests.helpers.job_makers import FakeMaker

if __name__ == "__main__":
    out, workers = Path(sys.argv[1]), int(sys.argv[2])
    spec = JobSpec(default_values(), out.parent, out, {}, {}, FORMATS["wav-16"], Levels())
    rows = [Row(f"r{n}", n, {"prompt": "x"}) for n in range(40)]
    make = partial(FakeMaker, out, pause=0.05)
    several = partial(run_processes, make, workers=workers)
    engine = several if workers > 1 else partial(run_here, make)
    print(run_job(spec, rows, engine, True))
"""


def start(script: Path, out: Path, workers: int) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(out), str(workers)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_killed_driver_loses_nothing_that_was_made(tmp_path, workers):
    script, out = tmp_path / "driver.py", tmp_path / "out"
    script.write_text(DRIVER)
    driver = start(script, out, workers)
    results = out / "manifest.jsonl"
    limit = time.monotonic() + 120
    while not (results.is_file() and results.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < limit, "the driver made nothing"
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    made = {path.name for path in out.glob("*.bin")}
    assert 3 <= len(made) < 40
    again = start(script, out, workers)
    said, _ = again.communicate(timeout=240)
    assert again.returncode == 0
    kept = int(said.split(" kept")[0].rpartition(" ")[2])
    assert kept >= 3
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"r{n}" for n in range(40)]
    assert all(line["outcome"] == "done" for line in lines)
    assert len(list(out.glob("*.bin"))) == 40
