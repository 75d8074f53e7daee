"""One process at a time in a folder."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sa3_core.errors import InputError
from sa3_core.files.lock import only_one
from tests.helpers.support import ROOT

HOLD = """
import sys, time
from pathlib import Path
from sa3_core.files.lock import only_one
with only_one(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_the_folder_is_free_afterwards(tmp_path):
    with only_one(tmp_path), pytest.raises(InputError, match="in use"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_a_killed_process_leaves_the_folder_free(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"in"
        with pytest.raises(InputError, match="in use"), only_one(tmp_path):
            pass
        child.kill()
        child.wait()
    with only_one(tmp_path):
        pass
