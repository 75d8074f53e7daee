"""Worker processes, one per implementation, asked one at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.benchmarks.checkpoints import ROOT


class WorkerError(Exception):
    """A worker could not do what it was asked; the message says why."""


class Process:
    """One worker process."""

    def __init__(self, name: str, threads: int) -> None:
        self._log = tempfile.TemporaryFile(  # noqa: SIM115 - open as long as the process lives
            "w+", encoding="utf-8", errors="replace"
        )
        command = [sys.executable, "-m", "tests.benchmarks.measuring.worker", name, str(threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log}
        self._process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)

    def ask(self, operation: str, **values: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            WorkerError: it answered with an error, or it died.
        """
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None
        assert pipe_out is not None
        try:
            pipe_in.write(json.dumps({"op": operation, **values}) + "\n")
            pipe_in.flush()
            line = pipe_out.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"its process ended: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.returncode}"

    def close(self) -> None:
        """Let it end."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Fleet:
    """Workers that are started when they are first asked and live until the fleet is left."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._workers: dict[str, Process] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Fleet:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.dismiss()
        self._stack.close()

    def dismiss(self) -> None:
        """End all workers, so that their memory is free."""
        while self._workers:
            self._workers.popitem()[1].close()

    def ask(self, name: str, operation: str, worker: str = "", **values: Any) -> dict[str, Any]:
        """As `Process.ask`, for the process of one implementation; a dead one is started anew.

        Args:
            name: of the implementation.
            operation: what to do.
            worker: what the worker calls this implementation, when it is not `name`.
            values: of the request.
        """
        if name not in self._workers:
            self._workers[name] = Process(worker or name, self.threads)
        try:
            return self._workers[name].ask(operation, **values)
        except WorkerError as error:
            if "process ended" in str(error):
                self._workers.pop(name).close()
            raise
