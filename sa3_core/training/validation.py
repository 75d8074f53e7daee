"""Whether a run learns: the loss of clips it never sees, at fixed noise levels with fixed noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_whole
from ..datasets.encoded import EncodedClip
from ..errors import InputError
from ..networks.model import SA3Model
from ..text.conditioning import TextConditioning
from .batches import cut
from .draws import item_seed
from .learner import Learner
from .step import StepInputs, predict, score

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
_FEWEST, _FLAT, _SINCE = 4, 0.1, 3  # validations that a hint needs, and what counts as flat


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes:
        step: steps done.
        losses: mean over clips at each of LEVELS; none without held-out clips.
        changes: norm of the change of each block's weights, relative to their own.
    """

    step: int
    losses: tuple[float, ...]
    changes: Mapping[str, float]

    @property
    def loss(self) -> float | None:
        """Mean over the levels."""
        return sum(self.losses) / len(self.losses) if self.losses else None


def hold_out(
    clips: Sequence[EncodedClip], count: int
) -> tuple[list[EncodedClip], list[EncodedClip]]:
    """Clips to learn from, and `count` others to validate on, the same ones in every run.

    Raises:
        InputError: none would be left to learn from.
    """
    if check_whole("hold_out", count, 0) >= len(clips):
        raise InputError(
            f"is {count}, of {len(clips)} clips: none is left to learn from.", "hold_out"
        )
    ranked = sorted(clips, key=lambda clip: item_seed(0, "hold out", clip.name))
    held = {id(clip) for clip in ranked[:count]}
    return [c for c in clips if id(c) not in held], [c for c in clips if id(c) in held]


class Validator:
    """Validates on the same parts of the same clips with the same noise, every time."""

    def __init__(
        self,
        model: SA3Model,
        clips: Sequence[EncodedClip],
        texts: Mapping[str, TextConditioning],
        frames: int,
        silence: Tensor | None = None,
    ) -> None:
        """Choose parts and noise.

        Args:
            model: that is trained.
            clips: held out; none = only the change of the weights is told.
            texts: every prompt encoded, one item each.
            frames: T, as in training.
            silence: behind short clips.

        Raises:
            InputError: a prompt that is not encoded.
        """
        missing = [clip.prompt for clip in clips if clip.prompt not in texts]
        if missing:
            raise InputError(f"{len(missing)} prompts are not encoded, first {missing[0]!r}.")
        self._model, self._texts = model, texts
        self._cuts = [
            cut(clip, frames, silence, item_seed(0, "validation", clip.name)) for clip in clips
        ]

    @torch.no_grad()
    def run(self, learner: Learner, step: int) -> Validation:
        """Validate what is attached to the model now."""
        learner.begin_step()
        sums = torch.zeros(len(LEVELS), dtype=torch.float64)
        for item in self._cuts:
            for place, level in enumerate(LEVELS):
                seed = item_seed(0, "validation", item.name, place)
                noise = torch.randn(
                    item.latents.shape, generator=torch.Generator().manual_seed(seed)
                )
                frames = torch.arange(item.latents.shape[1])
                inputs = StepInputs(
                    clips=item.latents[None],
                    seconds=(item.seconds,),
                    text=self._texts[item.prompt],
                    t=torch.tensor([level]),
                    noise=noise[None],
                    scored=(frames < item.valid)[None],
                    given=torch.zeros(1, 1, len(frames)),
                    dropped=torch.zeros(1, dtype=torch.bool),
                ).to(self._model.device)
                sums[place] += float(score(predict(self._model, inputs), inputs).total)
        losses = tuple((sums / len(self._cuts)).tolist()) if self._cuts else ()
        return Validation(step, losses, learner.changes())


def stopping_hint(history: Sequence[tuple[int, float]]) -> str:
    """What the validations so far say about stopping; '' = go on.

    Args:
        history: steps and losses, in order.
    """
    if len(history) < _FEWEST:
        return ""
    steps, losses = zip(*history, strict=True)
    best = min(range(len(losses)), key=lambda place: losses[place])
    if len(losses) - 1 - best >= _SINCE:
        return (
            f"The validation was lowest at step {steps[best]} ({losses[best]:.4g}) and has risen "
            f"since ({losses[-1]:.4g}): the run begins to copy. That checkpoint is likely the best."
        )
    elbow = _elbow(steps, losses)
    drop, rest = losses[0] - losses[best], losses[elbow] - losses[best]
    if drop > 0 and rest <= _FLAT * drop and len(losses) - 1 - elbow >= _SINCE:
        return (
            f"The validation fell fast until step {steps[elbow]} and little since: from there on "
            "listen to the checkpoints, and stop when they begin to copy."
        )
    return ""


def _elbow(steps: Sequence[int], losses: Sequence[float]) -> int:
    """The place that lies furthest below the line from the first loss to the last."""
    span, fall = steps[-1] - steps[0], losses[0] - losses[-1]

    def depth(place: int) -> float:
        return losses[0] - fall * (steps[place] - steps[0]) / max(span, 1) - losses[place]

    return max(range(len(losses)), key=depth)
