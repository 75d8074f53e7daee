"""Trainings that are really killed, or run out of disk.

    python -m tests.helpers.killed_training OUT STAGE ...

One process loads the model; each training is a child of it, killed at a stage of its own, and
another child goes on with it. What each folder holds in the end is for the test to compare.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from sa3_core.checkpoints.load import load_model
from sa3_core.errors import SA3Error
from sa3_core.files import whole_file
from sa3_core.networks.model import SA3Model
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from sa3_core.training.logs import Logs
from sa3_core.training.run import STATE, RunEvents, RunPlan, run
from sa3_core.training.settings import TrainSettings
from sa3_core.training.trainer import Trainer
from tests.helpers.clips import encoded_clips
from tests.helpers.support import tiny_checkpoint
from tests.helpers.texts import spoken

ADAPTER = AdapterSettings("lora", 1, include=("layers.0.ff",))
SETTINGS = TrainSettings(steps=4, frames=4, rate=1e-2)
LORA = "lora.safetensors"
KILLED, FAILED = -signal.SIGKILL, 1
FULL = ("no room for the LoRA", "no room for the state")


def kill(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def on_replace(name: str, time: int, after: bool) -> Callable[[], None]:
    """Kill when a file of this name is put in its place for the `time`-th time."""

    def arm() -> None:
        replace, seen = os.replace, 0

        def replace_or_die(source: Path, target: Path) -> None:
            nonlocal seen
            seen += Path(target).name == name
            dies = Path(target).name == name and seen == time
            if dies and not after:
                kill()
            replace(source, target)
            if dies:
                kill()

        os.replace = cast(Any, replace_or_die)

    return arm


def within_step() -> None:
    """Kill between the gradients and the optimizer's step of the third step."""
    update = Trainer._update

    def dying(self: Trainer, *args: Any) -> Any:
        if self.step == 2:
            kill()
        return update(self, *args)

    Trainer._update = cast(Any, dying)


def within_log() -> None:
    """Kill with half a line of the log written."""
    step = Logs.step

    def dying(self: Logs, report: Any, seconds: float) -> None:
        step(self, report, seconds)
        if report.step == 3:
            path = self._folder / "log.csv"
            path.write_bytes(path.read_bytes()[:-9])
            kill()

    Logs.step = cast(Any, dying)


class FullDisk:
    """A file on a disk with room for so many bytes."""

    def __init__(self, file: BinaryIO, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: bytes) -> int:
        self._room -= len(memoryview(data).cast("B"))
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(data)

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def full_at(number: int) -> Callable[[], None]:
    """The disk is full within the file that is written as the `number`-th one, and stays so."""

    def arm() -> None:
        opened, count = whole_file._open_part, 0

        def open_part(folder: Path) -> Any:
            nonlocal count
            count += 1
            path, file, lock = opened(folder)
            return path, FullDisk(file, 100) if count >= number else file, lock

        whole_file._open_part = cast(Any, open_part)

    return arm


# With a checkpoint in every step: LoRA, state, picture, LoRA under its number.
STAGES: dict[str, Callable[[], None]] = {
    "within a step": within_step,
    "within a line of the log": within_log,
    "before the LoRA": on_replace(LORA, 2, False),
    "between LoRA and state": on_replace(LORA, 2, True),
    "before the state": on_replace(STATE, 3, False),
    "behind the state": on_replace(STATE, 3, True),
    "before the picture": on_replace("progress.png", 2, False),
    "at a numbered checkpoint": on_replace("lora-000002.safetensors", 1, False),
    FULL[0]: full_at(5),
    FULL[1]: full_at(6),
}


def train(model: SA3Model, out: Path, steps: int) -> None:
    settings = TrainSettings(**{**vars(SETTINGS), "steps": steps})
    trainer = Trainer(model, TrainedAdapter(model, ADAPTER), encoded_clips(), spoken(), settings)
    run(trainer, out, RunPlan(save_every=1), RunEvents(), resume=(out / STATE).exists())


def child(work: Callable[[], None]) -> int:
    """Run in a child of its own; minus the signal that ended it, or its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            work()
            code = 0
        except SA3Error as error:
            code = FAILED if "disk is full" in str(error) else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(out: Path, stages: Sequence[str]) -> None:
    torch.set_num_threads(1)  # no threads that a child would miss
    model = load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32)
    assert child(lambda: train(model, out / "whole", SETTINGS.steps)) == 0
    for stage in stages:
        arm = STAGES[stage]
        folder = out / stage.replace(" ", "_")

        def ended(folder: Path = folder, arm: Callable[[], None] = arm) -> None:
            arm()
            train(model, folder, SETTINGS.steps)

        found = child(ended)
        again = child(lambda folder=folder: train(model, folder, SETTINGS.steps))
        (folder / "codes.txt").write_text(f"{found} {again}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
