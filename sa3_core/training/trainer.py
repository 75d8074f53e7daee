"""The training loop's steps: gradients, learning rates, and states that go on bit for bit.

Everything random follows from seed and step, so that a state is the parameters, the optimizer's
moments and the number of steps.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from ..checks import check_whole
from ..datasets.encoded import EncodedClip
from ..errors import InputError
from ..networks.model import SA3Model
from ..sampling.schedule import Shift, shift_from_options
from ..text.conditioning import TextConditioning
from .batches import CutClip, cut, pick, prompts_of, tag_orders
from .draws import draw_item, item_seed
from .learner import Learner
from .settings import BETAS, DECAY, EPSILON, TrainSettings
from .share import Share
from .state import read_state, write_state
from .step import Loss, StepInputs, assemble, predict, score

_MOMENTS = ("exp_avg", "exp_avg_sq")
_MAY_CHANGE = ("steps", "accumulate", "recompute")  # when a run goes on
PUBLISHED_SHIFT = {"type": "full"}


@dataclass(frozen=True)
class StepReport:
    """What a step was like.

    Attributes:
        step: number of steps done with it.
        loss: what was minimised.
        made: share of the frames that the model had to make.
        given: share of those that it was given.
        rate: learning rate.
        norm: length of the gradient, before it was clipped.
        levels: noise level of each item.
        items: loss of each item.
        skipped: float16 overflowed on the way back: nothing was changed, the next step is scaled
            less.
    """

    step: int
    loss: float
    made: float
    given: float
    rate: float
    norm: float
    levels: tuple[float, ...]
    items: tuple[float, ...]
    skipped: bool = False


class Trainer:
    """Trains a LoRA or a model that is attached (`Learner.attached`).

    Attributes:
        step: steps done.
        settings: how.
        learner: what.
        shift: of the noise levels.
        share: of this process.
        directions: [256, D] orthonormal latent directions whose error counts, for an autoencoder
            that reads no others; None = all.
    """

    def __init__(
        self,
        model: SA3Model,
        learner: Learner,
        clips: Sequence[EncodedClip],
        texts: Mapping[str, TextConditioning],
        settings: TrainSettings,
        silence: Tensor | None = None,
        shift: Shift | None = None,
        share: Share | None = None,
    ) -> None:
        """Make ready; nothing is computed yet.

        Args:
            model: on its device; float16 is scaled on the way back.
            learner: on that model.
            clips: to learn from.
            texts: every prompt encoded, one item each.
            settings: how.
            silence: encoded silence behind short clips.
            shift: of the noise levels; None = what the model's config says of training, else the
                published one.
            share: of this process, of several that hold all clips each; None = the only one.

        Raises:
            ConfigError: the model's config asks for a shift that is not there.
            InputError: no clip, a prompt that is not encoded, a length beyond the model's, or a
                batch that cannot be divided.
        """
        share = share or Share()
        if not clips:
            raise InputError("There is no clip to train on. Encode some recordings first.")
        missing = [
            prompt for prompt in prompts_of(clips, settings.tag_orders) if prompt not in texts
        ]
        if missing:
            raise InputError(f"{len(missing)} prompts are not encoded, first {missing[0]!r}.")
        check_whole("frames", settings.frames, 1, model.max_frames)
        if settings.batch % (settings.accumulate * share.world):
            raise InputError(
                f"is {settings.batch}; it must be a multiple of {settings.accumulate} parts on "
                f"{share.world} devices.",
                "batch",
            )
        self.step, self.settings, self.learner, self.share = 0, settings, learner, share
        self.directions: Tensor | None = None
        self.shift = shift or shift_from_options(model.config.train_shift or PUBLISHED_SHIFT)
        self._model, self._clips = model, clips
        self._texts, self._silence = texts, silence
        self._tensors = learner.tensors()
        share.start_alike(self._tensors.values())
        rate = settings.rate
        self._optimizer = torch.optim.AdamW(self._tensors.values(), rate, BETAS, EPSILON, DECAY)
        self._updates = 0  # steps of the optimizer: float16 may leave some out
        half = model.dtype == torch.float16
        self._scaler = GradScaler(model.device.type) if half else None

    def run_step(self) -> StepReport:
        """One step of the optimizer.

        Raises:
            InputError: loss or gradient is not finite; nothing was changed.
        """
        cuts, inputs = self._inputs()
        self._optimizer.zero_grad()
        parts = self.settings.accumulate * self.share.world
        size = self.settings.batch // parts
        totals = torch.zeros(2 + self.settings.batch, device=self._model.device)
        own = self.share.items(self.settings.batch)
        for first in range(own.start, own.stop, size):
            loss = self._back(inputs.select(range(first, first + size)), parts)
            totals[0] += loss.made.detach() / parts
            totals[1] += loss.given.detach() / parts
            totals[2 + first : 2 + first + size] = loss.items
            if not bool(torch.isfinite(loss.items).all()):
                break
        made, given, *items = self.share.add_up(totals).tolist()
        if not bool(torch.isfinite(totals).all()):
            self._refuse(cuts, totals[2:])
        self.share.add_up_gradients(self._tensors.values())
        rate = self.settings.rate_at(self.step)
        norm, skipped = self._update(rate, cuts)
        self.step += 1
        levels = tuple(inputs.t.tolist())
        return StepReport(
            self.step, made + given, made, given, rate, norm, levels, tuple(items), skipped
        )

    def save_state(self, path: Path) -> None:
        """Write what `load_state` goes on from; an older file is replaced at once.

        Raises:
            AdapterError: it cannot be written; an older file is untouched.
        """
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._tensors.items():
            tensors[name] = parameter.detach()
            for moment in _MOMENTS:
                value = self._optimizer.state[parameter].get(moment)
                tensors[f"{moment}.{name}"] = (
                    torch.zeros_like(parameter) if value is None else value
                )
        position: dict[str, Any] = {"step": self.step, "updates": self._updates}
        if self._scaler is not None:
            position["scaler"] = self._scaler.state_dict()
        write_state(path, tensors, {**self.identity(), **position})

    @torch.no_grad()
    def load_state(self, path: Path) -> None:
        """Go on where a run was saved.

        Raises:
            AdapterError: no such state, or one of other settings, clips or layers.
        """
        before = ("", *(f"{moment}." for moment in _MOMENTS))
        shapes = {b + name: value.shape for name, value in self._tensors.items() for b in before}
        state, read = read_state(path, self.identity(), shapes)
        self._updates = int(state["updates"])
        with read as tensors:
            for name, parameter in self._tensors.items():
                parameter.copy_(tensors(name))
                if self._updates:
                    moments = {
                        moment: tensors(f"{moment}.{name}").to(parameter.device)
                        for moment in _MOMENTS
                    }
                    count = torch.tensor(float(self._updates))
                    self._optimizer.state[parameter] = {"step": count, **moments}
        if self._scaler is not None and "scaler" in state:
            self._scaler.load_state_dict(state["scaler"])
        self.learner.end_step()
        self.step = int(state["step"])

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on, as JSON takes it."""
        settings = {k: v for k, v in asdict(self.settings).items() if k not in _MAY_CHANGE}
        found = {
            **settings,
            "model": self._model.name,
            "adapter": self.learner.identity(),
            "clips": sorted(clip.name for clip in self._clips),
        }
        return json.loads(json.dumps(found))

    def _inputs(self) -> tuple[list[CutClip], StepInputs]:
        """The whole batch with everything random drawn, on the CPU."""
        settings = self.settings
        chosen = pick(len(self._clips), settings.batch, settings.seed, self.step)
        seeds = [item_seed(settings.seed, self.step, place) for place in range(settings.batch)]
        cuts = [
            cut(self._clips[index], settings.frames, self._silence, seed)
            for index, seed in zip(chosen, seeds, strict=True)
        ]
        prompts = [
            orders[item_seed(seed, "order") % len(orders)]
            for orders, seed in zip(
                (tag_orders(item.prompt, settings.tag_orders) for item in cuts), seeds, strict=True
            )
        ]
        draws = [
            draw_item(settings.draws, seed, item.valid, settings.frames)
            for item, seed in zip(cuts, seeds, strict=True)
        ]
        inputs = assemble(
            torch.stack([item.latents for item in cuts]),
            [item.seconds for item in cuts],
            TextConditioning.stack([self._texts[prompt].to("cpu") for prompt in prompts]),
            draws,
            self.shift,
            settings.coupled,
        )
        return cuts, inputs

    def _back(self, part: StepInputs, parts: int) -> Loss:
        """Add a part's gradients to those there are, unless its loss is not finite."""
        part = part.to(self._model.device)
        self.learner.begin_step(item_seed(self.settings.seed, self.step))
        velocity = predict(self._model, part, self.settings.recompute)
        loss = score(velocity, part, self.directions)
        if bool(torch.isfinite(loss.items).all()):
            total = loss.total / parts
            (total if self._scaler is None else self._scaler.scale(total)).backward()
            self.learner.end_backward()
        return loss

    def _update(self, rate: float, cuts: Sequence[CutClip]) -> tuple[float, bool]:
        """Let the optimizer act; the gradient's length, and whether it overflowed in float16."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        most = self.settings.clip_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self._tensors.values(), most))
        finite = norm < float("inf")
        if self._scaler is not None:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        elif finite:
            self._optimizer.step()
        else:
            names = ", ".join(dict.fromkeys(item.name for item in cuts))
            raise InputError(
                f"The gradient of {names} is not finite in step {self.step + 1}; training stopped "
                "before it changed anything. Lower the learning rate, or choose fp32."
            )
        self._updates += finite
        self.learner.end_step()
        return norm, not finite

    def _refuse(self, cuts: Sequence[CutClip], losses: Tensor) -> None:
        self._optimizer.zero_grad()
        finite = torch.isfinite(losses).tolist()
        names = [item.name for item, good in zip(cuts, finite, strict=True) if not good]
        raise InputError(
            f"The loss of {', '.join(names)} is not finite in step {self.step + 1}; training "
            "stopped before it changed anything. Lower the learning rate, or choose bf16 or fp32."
        )
