"""The whole suite in parts: every test file in one of them, every outcome told."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.tools.suite import BROWSER, NEWEST_PAGE, Part, Suite, parts

ROOT = Path(__file__).resolve().parents[2]


def test_every_test_file_is_in_one_part():
    chosen = [part.arguments for part in parts({})]
    files = set((ROOT / "tests").rglob("test_*.py"))
    seen: list[Path] = []
    for arguments in chosen:
        ignored = [ROOT / root.split("=")[1] for root in arguments if root.startswith("--ignore=")]
        roots = [ROOT / root for root in arguments if not root.startswith("--")]
        assert all(root.is_dir() for root in (*roots, *ignored))
        inside = (path for path in files if any(root in path.parents for root in roots))
        seen += [path for path in inside if not any(root in path.parents for root in ignored)]
    assert sorted(seen) == sorted(files)


def test_the_newest_page_is_a_part_where_there_is_a_browser():
    assert [part.name for part in parts({})] == ["page", "host", "core nets", "core", "demo"]
    newest = parts({BROWSER: "chromium", NEWEST_PAGE: "folder"})[-1]
    assert newest.env == {"SA3_FRONTEND": "folder"}
    assert "smoke" in newest.arguments


def test_lines_carry_their_part_and_the_worst_code_is_the_answer(capfd):
    suite = Suite([sys.executable, "-c"], os.environ)
    code = suite.run(
        [
            Part("good", ["print('one')"]),
            Part(
                "bad",
                ["import os; print(os.environ['WHO']); print('FAILED it'); raise SystemExit(3)"],
                {"WHO": "x"},
            ),
            Part("empty", ["raise SystemExit(5)"]),
        ]
    )
    assert code == 3
    assert suite.codes == {"good": 0, "bad": 3, "empty": 0}
    assert suite.failures == ["FAILED it\n"]
    lines = sorted(capfd.readouterr().out.splitlines())
    assert lines == ["bad: FAILED it", "bad: x", "good: one"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_a_stop_reaches_what_runs_and_starts_nothing_more(capfd):
    sleeper = "import time\ntry:\n    print('up', flush=True); time.sleep(60)\n"
    sleeper += "except KeyboardInterrupt:\n    print('ended')"
    suite = Suite([sys.executable, "-c"], os.environ)
    late = Part("late", ["print('never')"])
    run = threading.Thread(target=suite.run, args=([Part("long", [sleeper]), late], 1))
    run.start()
    text, until = "", time.monotonic() + 30
    while "up" not in text and time.monotonic() < until:
        time.sleep(0.02)
        text += capfd.readouterr().out
    suite.stop()
    run.join(30)
    assert not run.is_alive()
    assert text + capfd.readouterr().out == "long: up\nlong: ended\n"
