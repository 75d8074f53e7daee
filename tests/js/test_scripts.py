"""The page's scripts: how they are laid out, and the unit tests of those that need no page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.support import ROOT, assert_none

JS = ROOT / "js"
MAX_LINES = 400
NODE = shutil.which("node")
IMPORT = re.compile(r'^(?:import|export)\b[^;]*?from "([^"]+)";|^import "([^"]+)";', re.MULTILINE)
SCRIPTS = sorted(path for path in JS.rglob("*") if path.suffix in (".js", ".mjs"))
UNIT_TESTS = sorted((ROOT / "tests" / "js").rglob("*.test.mjs"))
ROOMS = (  # shared is every room's
    *("shared", "compare", "dataset", "messages", "prompt", "regions", "takes", "training"),
)


def name(path: Path) -> str:
    return path.relative_to(JS).as_posix()


def imports(path: Path) -> list[Path]:
    """Files of ours that a script imports."""
    found = [a or b for a, b in IMPORT.findall(path.read_text("utf-8"))]
    return [(path.parent / target).resolve() for target in found if "/scripts/" not in target]


def test_only_entry_points_end_in_js():
    """ComfyUI loads every *.js below js/ as an extension, wherever it lies."""
    wrong = []
    for path in SCRIPTS:
        is_entry = path.suffix == ".js"
        if is_entry != ("app.registerExtension(" in path.read_text("utf-8")):
            wrong.append(f"{name(path)}: registers an extension or not, against its suffix")
        if is_entry != (path.parent == JS):
            wrong.append(f"{name(path)}: entry points lie in js/, helpers in its rooms")
    assert len(SCRIPTS) > 20
    assert_none(wrong)


def test_rooms_import_only_themselves_and_what_is_shared():
    wrong = []
    for path in SCRIPTS:
        room = path.parent.name if path.suffix == ".mjs" else None
        for target in imports(path):
            if not target.is_file():
                wrong.append(f"{name(path)}: {target} is not there")
            elif room and target.parent.name not in (room, "shared"):
                wrong.append(f"{name(path)} imports {name(target)}")
    assert {path.parent.name for path in SCRIPTS if path.suffix == ".mjs"} <= set(ROOMS)
    assert_none(wrong)


def test_scripts_stay_short():
    lengths = {name(path): len(path.read_text("utf-8").splitlines()) for path in SCRIPTS}
    assert_none([f"{path}: {lines} lines" for path, lines in lengths.items() if lines > MAX_LINES])


def test_unit_tests_mirror_the_scripts():
    tests = ROOT / "tests" / "js"
    tested = [path.relative_to(tests).as_posix().replace(".test", "") for path in UNIT_TESTS]
    assert_none([path for path in tested if not (JS / path).is_file()])


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_unit(path: Path):
    if NODE is None and os.environ.get("CI", "").lower() != "true":
        pytest.skip("no node on this machine")
    assert NODE is not None, "CI needs node"
    done = subprocess.run(
        [NODE, "--test", "--test-reporter=tap", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed is not None, done.stdout
    assert int(passed[1]) > 0
