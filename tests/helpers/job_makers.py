"""Makers of job rows that need no model; importable by spawned processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sa3_core.jobs.buckets import Bucket
from sa3_core.jobs.outcome import DONE, FAILED, Outcome


class FakeMaker:
    """Writes a byte per row and says so in `runs`; rows may fail or kill their process."""

    def __init__(
        self,
        out: Path,
        number: int,
        failing: str = "",
        killing: str = "",
        killing_once: str = "",
        pause: float = 0.0,
    ) -> None:
        self._out, self._failing = out, failing
        self._killing, self._killing_once = killing, killing_once
        self._pause = pause

    def run(self, bucket: Bucket) -> Iterator[Outcome]:
        for row in bucket.rows:
            mark = self._out / f".{row.id}.killed"
            if row.id in self._killing or (row.id in self._killing_once and not mark.exists()):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self._pause)
            if row.id in self._failing:
                yield Outcome(row.id, FAILED, "broken")
                continue
            with (self._out / "runs").open("a") as file:
                file.write(row.id)
            (self._out / f"{row.id}.bin").write_bytes(b"x")
            yield Outcome(row.id, DONE, file=f"{row.id}.bin", bytes=1)


class CardMaker(FakeMaker):
    """Says which cards its process was shown."""

    def run(self, bucket: Bucket) -> Iterator[Outcome]:
        shown = {"cards": os.environ.get("CUDA_VISIBLE_DEVICES"), "worker": os.getpid()}
        for outcome in super().run(bucket):
            yield replace(outcome, more=shown)
