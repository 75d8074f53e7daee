"""One question to a process of its own, as JSON; a crash or a long wait is an answer, too."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.benchmarks.checkpoints import ROOT


def ask(module: str, question: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Run `python -m module QUESTION` and read the last line it prints.

    Args:
        module: prints a JSON object.
        question: what it is told.
        seconds: it may take.

    Returns:
        What it printed, or `failed` and a `remark` that says why there is nothing.
    """
    command = [sys.executable, "-m", module, json.dumps(question)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return {"failed": True, "remark": f"took longer than {seconds:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return {"failed": True, "remark": words[-1][:200]}
