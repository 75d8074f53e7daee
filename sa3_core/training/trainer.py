"""The training loop of a LoRA: steps, learning rates, and states that go on bit for bit.

Everything random follows from seed and step, so that a state is the parameters, the optimizer's
moments and the number of steps.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..checks import check_number, check_one_of, check_positive, check_seed, check_whole
from ..datasets.encoded import EncodedClip
from ..errors import AdapterError, CheckpointError, InputError
from ..files.tensor_file import read_header
from ..files.whole_file import whole_file, write_failure
from ..networks.model import SA3Model
from ..sampling.schedule import FullShift, Shift
from ..text.conditioning import TextConditioning
from .adapter import TrainedAdapter
from .batches import CutClip, cut, pick, prompts_of
from .draws import DrawSettings, draw_item, item_seed
from .step import assemble, predict, score

BETAS, EPSILON, DECAY = (0.9, 0.95), 1e-8, 0.01
SCHEDULES = ("constant", "inverse", "cosine")
_WARMUP, _INVERSE = 0.995, 1e6  # of `inverse`
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainSettings:
    """How a LoRA is trained.

    Attributes:
        steps: of the optimizer; `cosine` ends there.
        batch: clips of a step.
        frames: T, latent frames of a clip as it is trained.
        rate: learning rate.
        schedule: one of SCHEDULES; `inverse` warms up, then falls slowly.
        clip_norm: most length of a step's gradient; 0 = any.
        accumulate: parts that a batch is computed in, for less memory.
        seed: of everything random.
        recompute: blocks run again on the way back, for less memory.
        coupled: match noises with clips over the batch.
        draws: what is drawn per item.
    """

    steps: int = 10_000
    batch: int = 1
    frames: int = 4096
    rate: float = 1e-4
    schedule: str = "constant"
    clip_norm: float = 0.0
    accumulate: int = 1
    seed: int = 42
    recompute: bool = False
    coupled: bool = True
    draws: DrawSettings = field(default_factory=DrawSettings)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "frames", "accumulate"):
            check_whole(name, getattr(self, name), 1)
        check_seed(self.seed)
        check_positive("rate", self.rate)
        check_number("clip_norm", self.clip_norm, 0.0)
        check_one_of("schedule", self.schedule, SCHEDULES)
        if self.batch % self.accumulate:
            raise InputError(
                f"is {self.accumulate}; it must divide the batch of {self.batch}.", "accumulate"
            )

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        if self.schedule == "inverse":
            return self.rate * (1 - _WARMUP ** (step + 1)) / math.sqrt(1 + step / _INVERSE)
        if self.schedule == "cosine":
            return self.rate * (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2
        return self.rate


@dataclass(frozen=True)
class StepReport:
    """What a step was like.

    Attributes:
        step: number of steps done with it.
        loss: what was minimised.
        made: share of the frames that the model had to make.
        given: share of those that it was given.
        rate: learning rate.
        levels: noise level of each item.
        items: loss of each item.
    """

    step: int
    loss: float
    made: float
    given: float
    rate: float
    levels: tuple[float, ...]
    items: tuple[float, ...]


class Trainer:
    """Trains an adapter that is attached to its model (`TrainedAdapter.attached`).

    Attributes:
        step: steps done.
    """

    def __init__(
        self,
        model: SA3Model,
        adapter: TrainedAdapter,
        clips: Sequence[EncodedClip],
        texts: Mapping[str, TextConditioning],
        settings: TrainSettings,
        silence: Tensor | None = None,
        shift: Shift | None = None,
    ) -> None:
        """Make ready; nothing is computed yet.

        Args:
            model: frozen weights on their device.
            adapter: on that model.
            clips: to learn from.
            texts: every prompt encoded, one item each.
            settings: how.
            silence: encoded silence behind short clips.
            shift: of the noise levels; None = the published one of training.

        Raises:
            InputError: no clip, a prompt that is not encoded, or a length beyond the model's.
        """
        if not clips:
            raise InputError("There is no clip to train on. Encode some recordings first.")
        missing = [prompt for prompt in prompts_of(clips) if prompt not in texts]
        if missing:
            raise InputError(f"{len(missing)} prompts are not encoded, first {missing[0]!r}.")
        check_whole("frames", settings.frames, 1, model.max_frames)
        self.step = 0
        self._model, self._adapter, self._clips = model, adapter, clips
        self._texts, self._settings, self._silence = texts, settings, silence
        self._shift = shift or FullShift()
        self._names = list(adapter.tensors())
        self._optimizer = torch.optim.AdamW(
            adapter.tensors().values(), settings.rate, BETAS, EPSILON, DECAY
        )

    def run_step(self) -> StepReport:
        """One step of the optimizer.

        Raises:
            InputError: the loss is not finite; nothing was changed.
        """
        settings = self._settings
        cuts, seeds = self._batch()
        draws = [
            draw_item(settings.draws, seed, item.valid, settings.frames)
            for item, seed in zip(cuts, seeds, strict=True)
        ]
        texts = TextConditioning.stack([self._texts[item.prompt].to("cpu") for item in cuts])
        inputs = assemble(
            torch.stack([item.latents for item in cuts]),
            [item.seconds for item in cuts],
            texts,
            draws,
            self._shift,
            settings.coupled,
        )
        self._optimizer.zero_grad()
        parts, size = [], settings.batch // settings.accumulate
        for first in range(0, settings.batch, size):
            part = inputs.select(range(first, first + size)).to(self._model.device)
            self._adapter.begin_step(item_seed(settings.seed, self.step))
            loss = score(predict(self._model, part, settings.recompute), part)
            if not bool(torch.isfinite(loss.items).all()):
                self._refuse(cuts[first : first + size], loss.items)
            (loss.total / settings.accumulate).backward()
            parts.append(loss)
        rate = settings.rate_at(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(self._adapter.parameters(), settings.clip_norm)
        self._optimizer.step()
        self.step += 1
        made, given = (
            float(torch.stack([getattr(part, name).detach() for part in parts]).mean())
            for name in ("made", "given")
        )
        items = tuple(torch.cat([part.items for part in parts]).tolist())
        levels = tuple(inputs.t.tolist())
        return StepReport(self.step, made + given, made, given, rate, levels, items)

    def save_state(self, path: Path) -> None:
        """Write what `load_state` goes on from; an older file is replaced at once.

        Raises:
            AdapterError: it cannot be written; an older file is untouched.
        """
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._adapter.tensors().items():
            tensors[name] = parameter.detach()
            for moment in _MOMENTS:
                value = self._optimizer.state[parameter].get(moment)
                tensors[f"{moment}.{name}"] = (
                    torch.zeros_like(parameter) if value is None else value
                )
        kept = {key: value.cpu().contiguous() for key, value in tensors.items()}
        try:
            with whole_file(path) as whole:
                whole.file.write(save(kept, {"training_state": json.dumps(self._identity())}))
        except OSError as error:
            raise AdapterError(write_failure(path, error)) from error

    @torch.no_grad()
    def load_state(self, path: Path) -> None:
        """Go on where a run was saved.

        Raises:
            AdapterError: no such state, or one of other settings, clips or layers.
        """
        try:
            read_header(path)
            with safe_open(str(path), framework="pt") as file:
                state = json.loads((file.metadata() or {}).get("training_state", "null"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (CheckpointError, SafetensorError, OSError, ValueError) as error:
            raise AdapterError(f"Training state {error}") from error
        own = self._identity()
        if not isinstance(state, dict):
            raise AdapterError(f"{path.name} is no training state.")
        other = [key for key in own if key != "step" and state.get(key) != own[key]]
        if other or not set(self._names) <= tensors.keys():
            raise AdapterError(
                f"{path.name} was trained with another setting of {', '.join(other) or 'layers'}. "
                "Set what it was trained with, or start anew in another folder."
            )
        step = int(state["step"])
        for name, parameter in self._adapter.tensors().items():
            parameter.copy_(tensors[name])
            moments = {m: tensors[f"{m}.{name}"].to(parameter.device) for m in _MOMENTS}
            if step:
                count = torch.tensor(float(step))
                self._optimizer.state[parameter] = {"step": count, **moments}
        self.step = step

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        settings = json.loads(json.dumps(asdict(self._settings)))
        for free in ("steps", "accumulate", "recompute"):
            settings.pop(free)
        return {
            "step": self.step,
            **settings,
            "adapter": json.loads(json.dumps(asdict(self._adapter.settings))),
            "clips": sorted(clip.name for clip in self._clips),
        }

    def _batch(self) -> tuple[list[CutClip], list[int]]:
        settings = self._settings
        chosen = pick(len(self._clips), settings.batch, settings.seed, self.step)
        seeds = [item_seed(settings.seed, self.step, place) for place in range(settings.batch)]
        cuts = [
            cut(self._clips[index], settings.frames, self._silence, seed)
            for index, seed in zip(chosen, seeds, strict=True)
        ]
        return cuts, seeds

    def _refuse(self, cuts: Sequence[CutClip], losses: Tensor) -> None:
        finite = torch.isfinite(losses).tolist()
        names = [item.name for item, good in zip(cuts, finite, strict=True) if not good]
        raise InputError(
            f"The loss of {', '.join(names)} is not finite in step {self.step + 1}; training "
            "stopped before it changed anything. Lower the learning rate, or choose bf16 or fp32."
        )
