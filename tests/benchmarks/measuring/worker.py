"""A process that computes for one implementation.

    python -m tests.benchmarks.measuring.worker NAME THREADS

Reads requests as JSON, one per line, and answers each with one line. Its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks.cases.jobs import Job
from tests.benchmarks.measuring import machine
from tests.benchmarks.measuring.peak import rates
from tests.benchmarks.measuring.work import UnableError, Work
from tests.benchmarks.peers import comfyui, diffusers_sa3, ours, padded_text, reference

IMPLEMENTATIONS: dict[str, Callable[[Job], Work]] = {
    "ours": ours.prepare,
    "comfyui": comfyui.prepare,
    "comfyui-sdpa": lambda job: comfyui.prepare(job, (comfyui.SDPA,)),
    "diffusers": diffusers_sa3.prepare,
    "transformers": padded_text.prepare,
    "reference": reference.prepare,
}

PAGE = 4096  # bytes, of memory


class Worker:
    """Keeps the last job prepared, the memory it began with and the last result."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.job: Job | None = None
        self.work: Work | None = None
        self.result: Tensor | None = None
        self.base: float | None = None

    def peak(self, request: dict[str, Any]) -> dict[str, Any]:
        """Matmul rates of this machine, in FLOP/s."""
        return asdict(rates(request["dtype"], request["device"], request["quick"]))

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Compute one job and measure it."""
        job = Job(**request["job"])
        self.result, cpu = None, time.process_time()
        work = self._prepared(job)
        machine.give_back_free_memory()
        machine.reset_peak()
        cuda = job.device != "cpu"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        start = time.perf_counter()
        self.result = work.run()
        if cuda:
            torch.cuda.synchronize()
        seconds, peak = time.perf_counter() - start, machine.peak_resident()
        above = None if peak is None or self.base is None else peak - self.base
        return {
            "seconds": seconds,
            "cpu": time.process_time() - cpu,  # preparation included
            "memory": above,
            "vram": torch.cuda.max_memory_allocated() if cuda else None,
        }

    def save(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write the last result to a file."""
        torch.save(self.result, Path(request["path"]))
        return {}

    def _prepared(self, job: Job) -> Work:
        if self.work is None or job != self.job:
            known = self.job is not None and job.weights == self.job.weights
            self.job, self.work = None, None  # what they hold is free before the next is loaded
            self.work, self.job = IMPLEMENTATIONS[self.name](job), job
            if not known:
                self.base = self._base(self.work)
        return self.work

    def _base(self, work: Work) -> float | None:
        """Memory in use with all weights in it, and torch's own libraries awake."""
        torch.mm(torch.ones(64, 64), torch.ones(64, 64))
        for weight in work.weights():
            weight.flatten()[:: PAGE // weight.element_size()].sum()
        machine.give_back_free_memory()
        return machine.resident()


def main() -> None:
    """Answer requests until the input ends."""
    name, threads = sys.argv[1], int(sys.argv[2])
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print, and their words are no answers
    torch.set_num_threads(threads)
    worker = Worker(name)
    operations = {"run": worker.run, "save": worker.save, "peak": worker.peak}
    with torch.inference_mode():
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = operations[request["op"]](request)
            except UnableError as reason:
                answer = {"error": str(reason)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
            channel.write(json.dumps(answer) + "\n")
            channel.flush()


if __name__ == "__main__":
    main()
