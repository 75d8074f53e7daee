"""The whole suite as processes side by side: pages wait for browsers while the core computes.

    python -m tests.tools.suite [tests/core] [pytest arguments]

`dev.py test` starts it without other paths; `tests/core` means the core's parts alone. The
environment names ComfyUI (SA3_COMFYUI) and, where they could be had, a browser (SA3_BROWSER) and
the newest page (SA3_NEWEST_PAGE).
"""
# ruff: noqa: T201 - a command, it prints

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.harness import FRONTEND

ROOT = Path(__file__).resolve().parents[2]
BROWSER, NEWEST_PAGE = "SA3_BROWSER", "SA3_NEWEST_PAGE"
CORE, DEMO = "tests/core", "tests/demo"
NET_ROOMS = ("codec", "networks", "sampling", "training")
AT_ONCE = 2
"""Processes side by side. A third one starves the browser of a machine with two cores."""
NOTHING_COLLECTED = 5  # pytest's exit code where `-k` leaves no test of a part


@dataclass(frozen=True)
class Part:
    """One pytest process: its name before each line, its arguments, more environment."""

    name: str
    arguments: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


def core_parts() -> list[Part]:
    """The core's tests in two halves of about the same length."""
    nets = [f"{CORE}/{room}" for room in NET_ROOMS]
    others = [f"--ignore={room}" for room in nets]
    return [Part("core nets", nets), Part("core", [CORE, *others])]


def parts(env: Mapping[str, str]) -> list[Part]:
    """What the suite consists of, the longest first: every test once, and smoke on a newer page."""
    found = [
        Part("page", ["tests/browser"]),
        Part("host", ["tests", *(f"--ignore={room}" for room in ("tests/browser", CORE, DEMO))]),
        *core_parts(),
        Part("demo", [DEMO]),
    ]
    if BROWSER in env:
        newest = {FRONTEND: env.get(NEWEST_PAGE, "")}
        found.append(Part("newest page", ["-m", "smoke", "tests/browser"], newest))
    return found


class Suite:
    """Runs parts, a few at a time, and prints their lines as they come."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """A command that takes each part's arguments, and the environment of all of them."""
        self._command, self._env = list(command), dict(env)
        self._children: list[subprocess.Popen[str]] = []
        self._stopped = threading.Event()
        self.codes: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.failures: list[str] = []

    def run(self, wanted: Sequence[Part], at_once: int = AT_ONCE) -> int:
        """Run the parts.

        Returns:
            0 when every part passed, else the largest exit code.
        """
        waiting: queue.SimpleQueue[Part] = queue.SimpleQueue()
        for part in wanted:
            waiting.put(part)
        workers = [threading.Thread(target=self._work, args=(waiting,)) for _ in range(at_once)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        except KeyboardInterrupt:
            self.stop()
            for worker in workers:
                worker.join()
            return 130
        return max(self.codes.values())

    def stop(self) -> None:
        """Ask every running part to end, so that it ends its servers too; start no other."""
        self._stopped.set()
        for child in self._children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)

    def _work(self, waiting: queue.SimpleQueue[Part]) -> None:
        while not self._stopped.is_set():
            try:
                part = waiting.get_nowait()
            except queue.Empty:
                return
            begin = time.monotonic()
            code = self._run_part(part)
            self.codes[part.name] = 0 if code == NOTHING_COLLECTED else abs(code)
            self.seconds[part.name] = time.monotonic() - begin

    def _run_part(self, part: Part) -> int:
        child = subprocess.Popen(
            [*self._command, *part.arguments],
            cwd=ROOT,
            env={**self._env, **part.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # the terminal's Ctrl+C comes once, through `stop`
        )
        self._children.append(child)
        assert child.stdout is not None
        for line in child.stdout:
            print(f"{part.name}: {line}", end="", flush=True)
            if line.startswith(("FAILED ", "ERROR ")):  # of pytest's short summary
                self.failures.append(line)
        return child.wait()


def main(arguments: Sequence[str]) -> int:
    """Run the suite on this machine; see the top of this file."""
    threads = str(max(1, (os.cpu_count() or 1) // AT_ONCE))
    env = {"OMP_NUM_THREADS": threads, **os.environ}
    wanted = core_parts() if CORE in arguments else parts(env)
    options = [argument for argument in arguments if argument != CORE]
    suite = Suite([sys.executable, "-m", "pytest", *options], env)
    code = suite.run([part for part in wanted if part.env.get(FRONTEND, "own")])
    print("".join(suite.failures), end="", flush=True)
    for name, result in suite.codes.items():
        outcome = "passed" if result == 0 else f"FAILED (exit code {result})"
        print(f"== {name}: {outcome} in {suite.seconds[name]:.0f} s", flush=True)
    if any(part.env.get(FRONTEND) == "" for part in wanted):
        print("== newest page: FAILED, it could not be downloaded", flush=True)
        return max(code, 1)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
