"""A training run in a folder: steps, logs, checkpoints, and going on where it was stopped."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checks import check_whole
from ..errors import InputError
from ..files.lock import only_one
from ..files.whole_file import write_failure
from .logs import LOG, Logs
from .picture import draw_progress
from .trainer import StepReport, Trainer
from .validation import Validation, Validator, stopping_hint

STATE = "training.state"


@dataclass(frozen=True)
class Progress:
    """What is told after each step.

    Attributes:
        report: of the step.
        total: steps of the whole run.
        seconds: that the step took.
        left: seconds until the end, by the mean of the last steps.
    """

    report: StepReport
    total: int
    seconds: float
    left: float


@dataclass(frozen=True)
class RunEvents:
    """Whom a run tells what; each may raise to stop it, and what was learnt is saved then.

    Attributes:
        on_step: after each step.
        on_validation: after each validation, with what it says about stopping ('' = nothing).
        on_saved: after each numbered checkpoint, with its path and its step: the place to make
            previews.
        cancelled: asked before each step; True ends the run as if it were done.
    """

    on_step: Callable[[Progress], None] = lambda progress: None
    on_validation: Callable[[Validation, str], None] = lambda found, hint: None
    on_saved: Callable[[Path, int], None] = lambda path, step: None
    cancelled: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class RunPlan:
    """What a run writes, and how often.

    Attributes:
        save_every: steps between numbered checkpoints; state, picture and validation go with each.
        keep: numbered checkpoints that stay, the newest; 0 = all.
        notes: of the checkpoints' headers.
        validator: of held-out clips; None = nothing is validated.
    """

    save_every: int = 500
    keep: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)
    validator: Validator | None = None

    def __post_init__(self) -> None:
        check_whole("save_every", self.save_every, 1)
        check_whole("keep", self.keep, 0)


def check_folder(folder: Path, resume: bool) -> None:
    """Refuse a folder that holds a run when a new one begins, or none to go on with.

    Raises:
        InputError: saying which.
    """
    there = (folder / STATE).exists()
    if there and not resume:
        raise InputError(
            f"{folder} holds a run already. Go on with it (resume), or choose another folder."
        )
    if resume and not there:
        raise InputError(f"{folder} holds no run to go on with. Begin one (without resume).")


def run(
    trainer: Trainer,
    folder: Path,
    plan: RunPlan,
    events: RunEvents = RunEvents(),
    resume: bool = False,
) -> Path:
    """Train until the last step, a stop or a cancel; what was learnt is saved in each case.

    Args:
        trainer: ready.
        folder: made where it is missing; one run at a time.
        plan: what is written.
        events: who is told.
        resume: go on with what the folder holds.

    Returns:
        What was trained: a LoRA file or a model folder.

    Raises:
        AdapterError: the state is of another run, or cannot be written; the last one is whole.
        InputError: the folder cannot be written to, is in use, holds a run already or none; a loss
            is not finite.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(write_failure(folder / LOG, error)) from error
    if not trainer.share.leads:
        return _Run(trainer, folder, plan, RunEvents(cancelled=events.cancelled)).work(resume)
    with only_one(folder):
        check_folder(folder, resume)
        return _Run(trainer, folder, plan, events).work(resume)


class _Run:
    """One run in its folder."""

    def __init__(self, trainer: Trainer, folder: Path, plan: RunPlan, events: RunEvents) -> None:
        self._trainer, self._folder = trainer, folder
        self._plan, self._events = plan, events
        self._leads, self._saved = trainer.share.leads, -1
        self._logs: Logs | None = None
        learner = trainer.learner
        self._result = folder / f"{learner.stem}{learner.suffix}"

    def work(self, resume: bool) -> Path:
        """All steps, and what goes with them."""
        trainer = self._trainer
        if resume:
            trainer.load_state(self._folder / STATE)
            self._saved = trainer.step
        if self._leads:
            self._logs = Logs(self._folder, trainer.step)
        try:
            with trainer.learner.attached():
                if not trainer.step:
                    self._validate()
                elif resume and trainer.step % self._plan.save_every == 0:
                    self._number_late(trainer.step)
                self._steps()
        finally:
            if trainer.step != self._saved:
                self._save()
            if self._logs is not None:
                self._logs.close()
        return self._result

    def _steps(self) -> None:
        trainer, total, pace = self._trainer, self._trainer.settings.steps, 0.0
        while trainer.step < total and not self._events.cancelled():
            began = time.perf_counter()
            report = trainer.run_step()
            seconds = time.perf_counter() - began
            pace = seconds if not pace else 0.9 * pace + 0.1 * seconds
            if self._logs is not None:
                self._logs.step(report, seconds)
            if report.step % self._plan.save_every == 0:
                self._validate()
                self._save()
                self._number(report.step)
            self._events.on_step(Progress(report, total, seconds, pace * (total - report.step)))

    def _validate(self) -> None:
        if self._plan.validator is None or self._logs is None:
            return
        found = self._plan.validator.run(self._trainer.learner, self._trainer.step)
        self._logs.validation(found)
        self._events.on_validation(found, stopping_hint(self._logs.history()))

    def _save(self) -> None:
        """The result first: a run that ends between the two does the last steps again, alike."""
        trainer = self._trainer
        if self._leads:
            trainer.learner.write(self._result, {**self._plan.notes, "step": trainer.step})
            trainer.save_state(self._folder / STATE)
            draw_progress(self._folder)
        trainer.share.wait()
        self._saved = trainer.step

    def _numbered(self, step: int) -> Path:
        learner = self._trainer.learner
        return self._folder / f"{learner.stem}-{step:06}{learner.suffix}"

    def _number_late(self, step: int) -> None:
        """Write the checkpoint that a kill between state and checkpoint has prevented."""
        if not self._numbered(step).exists():
            self._number(step)

    def _number(self, step: int) -> None:
        """A copy of the result under its step's number; the oldest make room."""
        if not self._leads:
            return
        learner, path = self._trainer.learner, self._numbered(step)
        learner.write(path, {**self._plan.notes, "step": step})
        self._events.on_saved(path, step)
        if not self._plan.keep:
            return
        for old in sorted(self._folder.glob(f"{learner.stem}-*{learner.suffix}"))[
            : -self._plan.keep
        ]:
            remove_checkpoint(old)


def remove_checkpoint(path: Path) -> None:
    """Remove a numbered checkpoint: a file, or a folder of files."""
    if path.is_file():
        path.unlink()
        return
    for file in path.iterdir():
        if file.is_file():
            file.unlink()
    path.rmdir()
