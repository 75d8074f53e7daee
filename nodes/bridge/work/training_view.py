"""What a training shows in its node while it runs: the loss, validations and previews."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import folder_paths

from ....sa3_core.adapters.norms import describe_changes
from ....sa3_core.audio.file import write_audio
from ....sa3_core.audio.formats import FORMATS
from ....sa3_core.geometry import SAMPLE_RATE
from ....sa3_core.networks.model import SA3Model
from ....sa3_core.text.conditioning import TextConditioning
from ....sa3_core.training.logs import losses_of
from ....sa3_core.training.previews import preview_latents
from ....sa3_core.training.run import Progress
from ....sa3_core.training.validation import Validation
from ..host.progress import INTERVAL, duration, send_event
from ..sockets.vae import SA3VAE

TRAINING_EVENT = "sa3_training"
POINTS = 240  # of the curve
_FORMAT = FORMATS["flac-24"]


@dataclass(frozen=True)
class Previews:
    """What is made with each checkpoint, from the same noise every time.

    Attributes:
        vae: that decodes.
        prompts: one piece each.
        seconds: of each piece.
    """

    vae: SA3VAE
    prompts: tuple[str, ...]
    seconds: float

    def make(
        self, model: SA3Model, texts: Mapping[str, TextConditioning], folder: Path, step: int
    ) -> list[dict[str, Any]]:
        """Make all pieces of a step.

        Args:
            model: with what it has learnt attached.
            texts: encoded prompts.
            folder: of the run.
            step: for names and labels.

        Returns:
            The files as the page finds them.
        """
        place = folder / "previews"
        place.mkdir(parents=True, exist_ok=True)
        output = Path(folder_paths.get_output_directory())
        latents = preview_latents(model, [texts[p] for p in self.prompts], self.seconds)
        made = []
        for number, (prompt, latent) in enumerate(zip(self.prompts, latents, strict=True), start=1):
            audio = self.vae.decode_latent(latent, seconds=[self.seconds])[0].cpu()
            path = place / f"step-{step:06}-{number}.flac"
            samples = audio[:, : int(self.seconds * SAMPLE_RATE)].clamp(-1, 1)
            write_audio(path, samples, SAMPLE_RATE, _FORMAT)
            made.append(
                {
                    "filename": path.name,
                    "subfolder": place.relative_to(output).as_posix(),
                    "type": "output",
                    "label": f"{step}: {prompt}",
                }
            )
        return made


@dataclass
class RunView:
    """Gathers what a run tells and sends it to the page, four times a second at most.

    Attributes:
        folder: of the run.
        total: steps.
    """

    folder: Path
    total: int
    _losses: list[float] = field(default_factory=list)
    _previews: list[dict[str, Any]] = field(default_factory=list)
    _validations: list[tuple[int, float]] = field(default_factory=list)
    _hint: str = ""
    _said: float = float("-inf")

    def __post_init__(self) -> None:
        self._losses = losses_of(self.folder)

    def step(self, progress: Progress) -> None:
        """A step is done."""
        report = progress.report
        del self._losses[report.step - 1 :]  # of steps that were not saved when a run stopped
        self._losses.append(report.loss)
        now = time.monotonic()
        if now - self._said < INTERVAL and report.step < self.total:
            return
        self._said = now
        text = f"step {report.step} of {self.total}, loss {report.loss:.4g}"
        if progress.left >= 1:
            text += f", {duration(progress.left)} left"
        self._send(text)

    def validated(self, found: Validation, hint: str) -> None:
        """Held-out clips were listened to."""
        if found.loss is not None:
            self._validations.append((found.step, found.loss))
        self._hint = hint

    def heard(self, previews: Sequence[dict[str, Any]]) -> None:
        """Previews were made."""
        self._previews += previews
        self._send(f"previews of step {len(self._losses)}")

    def ui(self) -> dict[str, Any]:
        """The node's output: the same that was sent."""
        return {"sa3_training": [self._state()]}

    def summary(self, changes: Mapping[str, float]) -> list[str]:
        """What the node says at the end.

        Args:
            changes: relative change of each block's weights.
        """
        last = f", last loss {self._losses[-1]:.4g}" if self._losses else ""
        lines = [f"{len(self._losses)} steps{last}", *describe_changes(changes)]
        return [*lines, *([self._hint] if self._hint else []), f"state: {self.folder.name}"]

    def _state(self) -> dict[str, Any]:
        return {
            "step": len(self._losses),
            "total": self.total,
            "curve": curve(self._losses),
            "validation": self._validations,
            "previews": self._previews,
        }

    def _send(self, text: str) -> None:
        send_event(TRAINING_EVENT, {**self._state(), "text": text})


def curve(losses: Sequence[float], points: int = POINTS) -> list[float]:
    """Means over equal stretches of a run, at most `points` of them."""
    size = max(1, -(-len(losses) // points))
    parts = [losses[first : first + size] for first in range(0, len(losses), size)]
    return [round(sum(part) / len(part), 5) for part in parts]
