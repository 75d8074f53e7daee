"""One training step: noise the clips, ask the net for the velocity, score it.

B items, C latent channels, T frames. Source: arXiv 2605.17991, training; spec of the release.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import effective_frames
from ..networks.conditioning import local_condition
from ..networks.model import SA3Model
from ..sampling.schedule import Shift
from ..text.conditioning import TextConditioning
from .draws import ItemDraws, couple, shifted_levels

_TINY = 1e-8


@dataclass(frozen=True, eq=False)
class StepInputs:
    """A batch with everything random drawn.

    Attributes:
        clips: [B, C, T] float32 latents.
        seconds: B durations as the model is told them.
        text: B encoded prompts.
        t: [B] float32 noise levels, shifted.
        noise: [B, C, T] float32, coupled.
        scored: bool [B, T], frames that are scored and attended to.
        given: [B, 1, T], inpainting mask, 1 = given; 0 outside of `scored`.
        dropped: bool [B], items without prompt and duration token.
        host_scored: `scored` on the CPU, where asking for its values waits for nobody.
    """

    clips: Tensor
    seconds: Sequence[float]
    text: TextConditioning
    t: Tensor
    noise: Tensor
    scored: Tensor
    given: Tensor
    dropped: Tensor
    host_scored: Tensor | None = None

    def __post_init__(self) -> None:
        if self.host_scored is None:
            object.__setattr__(self, "host_scored", self.scored.cpu())

    @property
    def padding(self) -> Tensor | None:
        """`scored` on the CPU; None where every frame is."""
        assert self.host_scored is not None
        return None if bool(self.host_scored.all()) else self.host_scored

    def to(self, device: torch.device) -> "StepInputs":
        """The same on `device`."""
        names = ("clips", "t", "noise", "scored", "given", "dropped")
        moved = {name: getattr(self, name).to(device) for name in names}
        return replace(self, text=self.text.to(device), **moved)

    def select(self, items: Sequence[int]) -> "StepInputs":
        """Some items, in that order."""
        chosen = list(items)
        names = ("clips", "t", "noise", "scored", "given", "dropped", "host_scored")
        picked = {name: getattr(self, name)[chosen] for name in names}
        seconds = [self.seconds[item] for item in chosen]
        return replace(self, seconds=seconds, text=self.text.select(chosen), **picked)


@dataclass(frozen=True, eq=False)
class Loss:
    """Mean squared error by part, each a mean over items of its mean over the item's frames.

    Attributes:
        made: frames that the model had to make.
        given: frames that it was given.
        items: [B], both parts of each item.
    """

    made: Tensor
    given: Tensor
    items: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.made + self.given


def assemble(
    clips: Tensor,
    seconds: Sequence[float],
    text: TextConditioning,
    draws: Sequence[ItemDraws],
    shift: Shift,
    coupled: bool = True,
) -> StepInputs:
    """Put the items' draws together.

    Args:
        clips: [B, C, T] float32 on the CPU.
        seconds: B durations.
        text: B encoded prompts.
        draws: one per item.
        shift: the model's training shift.
        coupled: match noises with clips over the batch.

    Raises:
        InputError: not one of everything per item.
    """
    if not len(clips) == len(seconds) == text.batch == len(draws):
        raise InputError("clips, seconds, prompts and draws must be as many.")
    noise = torch.stack([draw.noise for draw in draws])
    levels = torch.stack([draw.level for draw in draws])
    return StepInputs(
        clips=clips,
        seconds=tuple(seconds),
        text=text,
        t=shifted_levels(levels, shift, [max(1, effective_frames(s)) for s in seconds]),
        noise=noise[couple(clips, noise)] if coupled else noise,
        scored=torch.stack([draw.scored for draw in draws]),
        given=torch.stack([draw.given for draw in draws]),
        dropped=torch.tensor([draw.dropped for draw in draws]),
    )


def predict(model: SA3Model, inputs: StepInputs, recompute: bool = False) -> Tensor:
    """Velocity [B, C, T] of the noised clips, differentiable.

    Args:
        model: net and conditioner; weights that are trained ask for gradients.
        inputs: on the model's device.
        recompute: blocks keep their inputs alone, for less memory and a third more time.
    """
    t = inputs.t[:, None, None]
    noised = (1 - t) * inputs.clips + t * inputs.noise
    duration = model.conditioner.duration(inputs.seconds, model.device)
    context = model.conditioner.context(inputs.text, duration)
    kept = (~inputs.dropped)[:, None, None]
    constants = model.dit.prepare(
        context=torch.where(kept, context.tokens, 0.0).to(model.dtype),
        context_bias=context.bias,
        global_cond=duration,
        local_cond=local_condition(inputs.clips, inputs.given),
        padding_mask=inputs.padding,
        frames=inputs.clips.shape[-1],
        per_block=True,
    )
    constants = replace(constants, recompute=recompute)
    return model.dit.velocity(noised, inputs.t, constants)


def score(velocity: Tensor, inputs: StepInputs, directions: Tensor | None = None) -> Loss:
    """Mean squared error of a predicted velocity against noise - clip, in float32.

    Args:
        velocity: [B, C, T].
        inputs: what it was predicted from.
        directions: [C, D] orthonormal, what of the error counts; None = all of it.
    """
    missed = velocity.float() - (inputs.noise - inputs.clips)
    if directions is not None:
        missed = torch.einsum("cd,bct->bdt", directions, missed)
    error = missed.square()
    given = inputs.given[:, 0] > 0
    made = _part(error, inputs.scored & ~given)
    known = _part(error, inputs.scored & given)
    return Loss(made.mean(), known.mean(), (made + known).detach())


def _part(error: Tensor, frames: Tensor) -> Tensor:
    """Mean of [B, D, T] over channels and chosen frames, per item [B]; 0 for one without any."""
    weights = frames.to(error)[:, None]
    return (error * weights).sum(dim=(1, 2)) / (error.shape[1] * weights.sum(dim=(1, 2)) + _TINY)
