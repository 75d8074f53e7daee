"""A real ComfyUI server with the pack installed, in a base directory of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.helpers.client import ComfyClient
from tests.helpers.support import comfyui_root

ROOT = Path(__file__).resolve().parents[2]
FRONTEND = "SA3_FRONTEND"  # variable: folder of a page to serve instead of ComfyUI's own
PACK_NAME = "ComfyUI-SA3"  # the folder below custom_nodes
QUIET_FLAGS = (
    "--disable-api-nodes",
    "--dont-print-server",
    *("--database-url", "sqlite:///:memory:"),
)
START_TIMEOUT = 300.0  # seconds; two cores may have four suites to run
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "output", "models", "tests")


def link_pack(base: Path) -> Path:
    """Put the pack into base/custom_nodes: a symlink, on Windows a junction, else a copy."""
    link = base / "custom_nodes" / PACK_NAME
    link.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(link):
        if link.resolve() == ROOT:
            return link
        _remove(link)  # of a repository that has moved, or a copy of older files
    try:
        if sys.platform == "win32":
            import _winapi

            _winapi.CreateJunction(str(ROOT), str(link))
        else:
            link.symlink_to(ROOT, target_is_directory=True)
    except OSError:
        shutil.copytree(ROOT, link, ignore=LEFT_OUT)
    return link


def _remove(link: Path) -> None:
    """Remove a symlink, a junction or a copied folder, never what a link points to."""
    if link.is_symlink():
        link.unlink()
        return
    try:
        link.rmdir()  # a junction; a folder with files in it refuses
    except OSError:
        shutil.rmtree(link)


# Without the second, `auto` computes in bfloat16 on some CPUs; goldens are float32.
EXACT_FLAGS = ("--cpu", "--fp32-unet")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ComfyServer:
    """Starts ComfyUI headless and stops it; use as a context manager.

    Attributes:
        base: its base directory; models, input, output, temp and custom_nodes lie below it.
        client: talks to it once it is started.
        start_seconds: how long it took from the start to its first answer.
    """

    def __init__(
        self,
        comfyui: Path,
        base: Path,
        flags: Sequence[str] = EXACT_FLAGS,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.comfyui, self.base, self.flags = comfyui, base, tuple(flags)
        self.env = {**os.environ, **(env or {})}
        self.log_path = base / "server.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = ComfyClient(self.url)
        self.start_seconds = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> ComfyServer:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it ended or did not answer in time; the message holds the end of its log.
        """
        for folder in ("models", "input", "output", "temp", "user"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        link_pack(self.base)
        command = [sys.executable, "main.py", "--port", str(self.port)]
        command += ["--base-directory", str(self.base), *QUIET_FLAGS, *self.flags]
        if FRONTEND in self.env:
            command += ["--front-end-root", self.env[FRONTEND]]
        begin = time.monotonic()
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.comfyui, env=self.env, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._wait_for_answer(begin)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - begin
        return self

    def _wait_for_answer(self, begin: float) -> None:
        assert self._process is not None
        while time.monotonic() < begin + START_TIMEOUT:
            if self._process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended while starting:\n{self.log()[-3000:]}")
            try:
                self.client.get("/system_stats")
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(f"ComfyUI gave no answer in {START_TIMEOUT:g} s:\n{self.log()[-3000:]}")

    def stop(self) -> None:
        """Stop it: politely, then by force."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> ComfyServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id, for measuring memory."""
        assert self._process is not None, "not running"
        return self._process.pid

    def log(self) -> str:
        """Everything it has printed so far."""
        if not self.log_path.is_file():
            return ""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def models(self, folder: str) -> Path:
        """base/models/<folder>, made when it is missing."""
        path = self.base / "models" / folder
        path.mkdir(parents=True, exist_ok=True)
        return path


def server_with_models(
    base: Path, models: Mapping[str, Path], flags: Sequence[str] = EXACT_FLAGS
) -> ComfyServer:
    """A server, not started yet, without network and with copies of model folders by name."""
    server = ComfyServer(comfyui_root(), base, flags, env={"HF_HUB_OFFLINE": "1"})
    for name, source in models.items():
        shutil.copytree(source, server.models("stable_audio_3") / name)
    for folder in ("text_encoders", "loras"):
        server.models(folder)
    return server
