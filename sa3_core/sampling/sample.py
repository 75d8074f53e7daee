"""From noise to a latent: joins conditioning, schedule, guidance, solver and net.

B batch, C latent channels, T latent frames, V frames that take part (the longest item's piece and
headroom). Items are independent: neither batch nor padding changes a result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import broadcast, check_seconds
from ..errors import InputError
from ..geometry import (
    LATENT_CHANNELS,
    effective_frames,
    padding_mask,
    seconds_of_frames,
    target_frames,
    valid_frames,
)
from ..networks.conditioning import Context, local_condition, null_context
from ..networks.config import ModelConfig
from ..networks.model import SA3Model
from ..text.conditioning import TextConditioning
from .noise import ItemNoise, SeedBlend
from .predictor import Predictor, WeightSwitch
from .samplers import SAMPLERS, Noise
from .schedule import SHIFTS, build_sigmas, shift_from_options
from .settings import AUTO, SampleSettings

OnStep = Callable[[int, int, Tensor], None]  # step, steps, predicted data [B, C, V]


@dataclass(frozen=True)
class StartLatent:
    """What sampling starts from; it also says the mode.

    Attributes:
        frames: [B, C, T]: zeros for text-to-audio, an encoded source otherwise.
        seconds: one duration per item, or None: the whole latent is the piece.
        keep: [B, 1, T], 1 = given, 0 = to be made; None = everything is made.
        batch_index: index of each item in the batch it was taken from; None = 0, 1, ...
    """

    frames: Tensor
    seconds: tuple[float, ...] | None = None
    keep: Tensor | None = None
    batch_index: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Seeds:
    """Which noise to draw.

    Attributes:
        seed: one seed (each item's index is added), or one per item.
        towards: a second seed to blend with (or one per item), or None.
        strength: 0 = `seed` alone, 1 = `towards` alone; spherical in between.
    """

    seed: int | Sequence[int]
    towards: int | Sequence[int] | None = None
    strength: float = 0.0

    @property
    def count(self) -> int:
        """How many items the seeds are for; 1 = any number."""
        return len(self.seed) if isinstance(self.seed, Sequence) else 1


@torch.no_grad()
def sample_latent(
    model: SA3Model,
    start: StartLatent,
    settings: SampleSettings,
    positive: TextConditioning,
    negative: TextConditioning | None,
    seeds: Seeds | Noise,
    on_step: OnStep | None = None,
    switch: WeightSwitch | None = None,
) -> Tensor:
    """Denoise a latent.

    Prompts, negatives, durations, masks, seeds and latents come one per item, or one for all.

    Args:
        model: a loaded generator.
        start: latent, durations and mask. One item is repeated for several prompts.
        settings: autos are resolved from the model's objective.
        positive: the prompts.
        negative: negative prompts; None = all-zero context (only used when cfg is not 1).
        seeds: see Seeds; or a source of noise itself, every call a fresh [B, C, T].
        on_step: told the predicted data after each step; may raise to stop.
        switch: weights that change with the noise level (adapters with an interval).

    Returns:
        [B, C, T] float32 on the CPU; frames past an item's piece and headroom are 0.

    Raises:
        InputError: counts, widths, durations or lengths that do not fit.
    """
    settings = settings.resolve(model.objective)
    run = _Run.plan(model, start, positive, negative, seeds)
    if settings.noise_level == 0:
        return run.frames.float().cpu()
    predictor = Predictor(
        model=model,
        contexts=run.contexts(model, positive, negative, settings.guidance.active),
        duration=run.duration(model),
        local=run.local(),
        mask=run.mask(),
        guidance=settings.guidance,
        switch=switch,
    )
    noise = run.noise(seeds)
    cut = _cropped(noise, run.active)
    sigmas = schedule_for(model.config, settings, run.seconds)
    source = run.frames[..., : run.active].float().cpu()
    first = cut()
    level = settings.noise_level
    x = (source * (1 - level) + first * level).to(model.device)
    velocity = predictor.velocity
    if settings.keep_mode == "hard" and run.keep is not None:
        keep = run.keep[..., : run.active]
        velocity = _hard_keep(velocity, keep.to(x), source.to(x), first.to(x))
    out = SAMPLERS[settings.sampler](
        velocity, x, sigmas.to(model.device), noise=cut, on_step=on_step or _ignore
    ).cpu()
    if settings.keep_mode == "hard" and run.keep is not None:
        out = torch.where(run.keep[..., : run.active] > 0, source, out)
    out = out * run.valid_mask()[:, None, : run.active]
    return F.pad(out, (0, run.total - run.active))


def _ignore(step: int, steps: int, denoised: Tensor) -> None:
    pass


def _cropped(noise: Noise, frames: int) -> Noise:
    return lambda: noise()[..., :frames]


def schedule_for(config: ModelConfig, settings: SampleSettings, seconds: Sequence[float]) -> Tensor:
    """Noise levels per item, [B, steps + 1] float32.

    Args:
        config: says what shift `auto` means.
        settings: resolved settings.
        seconds: duration of each item; shifts use its effective length in frames.
    """
    lengths = [effective_frames(s) for s in seconds]
    auto = settings.shift == AUTO
    shift = shift_from_options(config.shift) if auto else SHIFTS[settings.shift]()
    bounded = settings.noise_schedule == "bounded"
    return build_sigmas(settings.steps, shift, lengths, settings.noise_level, bounded)


def _hard_keep(
    velocity: Callable[[Tensor, Tensor], Tensor], keep: Tensor, source: Tensor, noise: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """Put the kept frames back before, and into the prediction after, every evaluation."""

    def held(x: Tensor, t: Tensor) -> Tensor:
        level = t[:, None, None]
        x_in = torch.where(keep > 0, (1 - level) * source + level * noise, x)
        # Where kept, the velocity that leads from x straight to the source.
        to_source = (x - source) / level.clamp(min=torch.finfo(x.dtype).tiny)
        return torch.where(keep > 0, to_source, velocity(x_in, t))

    return held


@dataclass(frozen=True)
class _Run:
    """The inputs of one run after broadcasting, with all lengths decided."""

    frames: Tensor  # [B, C, T]
    seconds: tuple[float, ...]
    keep: Tensor | None
    batch_index: tuple[int, ...]
    own: tuple[int, ...]  # T_b, each item's own aligned length
    valid: tuple[int, ...]
    total: int

    @classmethod
    def plan(
        cls,
        model: SA3Model,
        start: StartLatent,
        positive: TextConditioning,
        negative: TextConditioning | None,
        seeds: Seeds | Noise,
    ) -> "_Run":
        frames, keep = _check_frames(start), start.keep
        given = start.seconds or (seconds_of_frames(frames.shape[-1]),)
        counts = {
            "latents": len(frames),
            "durations": len(given),
            "prompts": len(positive.tokens),
            "negative prompts": len(negative.tokens) if negative is not None else 1,
            "masks": len(keep) if keep is not None else 1,
            "seeds": seeds.count if isinstance(seeds, Seeds) else 1,
        }
        batch = max(counts.values())
        rows = {what: broadcast(count, batch, what) for what, count in counts.items()}
        total = min(frames.shape[-1], model.max_frames)
        # A latent without durations may hold all frames, a fraction more than whole seconds.
        limit = model.max_seconds if start.seconds else seconds_of_frames(model.max_frames)
        what = "seconds" if start.seconds else "the latent's length in seconds"
        seconds = [check_seconds(given[i], limit, what) for i in rows["durations"]]
        _check_fits(seconds, total)
        index = start.batch_index or tuple(range(len(frames)))
        if len(frames) == 1:
            index = tuple(index[0] + item for item in range(batch))
        return cls(
            frames=frames[rows["latents"]][..., :total],
            seconds=tuple(seconds),
            keep=keep[rows["masks"]][..., :total] if keep is not None else None,
            batch_index=index,
            own=tuple(min(target_frames(s, model.sample_size), total) for s in seconds),
            valid=tuple(valid_frames(s, total) for s in seconds),
            total=total,
        )

    @property
    def active(self) -> int:
        """V: frames that any item needs; the rest is never computed."""
        return max(self.valid)

    def valid_mask(self) -> Tensor:
        """Bool [B, T]."""
        return padding_mask(self.valid, self.total)

    def mask(self) -> Tensor | None:
        """Bool [B, V], or None when every item uses all V frames."""
        mask = self.valid_mask()[:, : self.active]
        return None if bool(mask.all()) else mask

    def noise(self, seeds: Seeds | Noise) -> Noise:
        if not isinstance(seeds, Seeds):
            return seeds
        first = self._drawn(seeds.seed)
        if seeds.towards is None or seeds.strength == 0:
            return first
        return SeedBlend(first, self._drawn(seeds.towards), seeds.strength)

    def _drawn(self, seed: int | Sequence[int]) -> ItemNoise:
        one = seed[0] if isinstance(seed, Sequence) and len(seed) == 1 else seed
        return ItemNoise(one, self.batch_index, self.own, self.total)

    def duration(self, model: SA3Model) -> Tensor:
        return model.conditioner.duration(self.seconds, model.device)

    def local(self) -> Tensor | None:
        """[B, 1 + C, V] mask and masked source, or None when nothing is kept."""
        if self.keep is None or not bool((self.keep > 0).any()):
            return None
        active = slice(0, self.active)
        return local_condition(self.frames[..., active].float(), self.keep[..., active].float())

    def contexts(
        self,
        model: SA3Model,
        positive: TextConditioning,
        negative: TextConditioning | None,
        guided: bool,
    ) -> tuple[Context, Context | None]:
        """Positive context, and the negative one when guidance needs it."""
        batch = self.frames.shape[0]
        duration = self.duration(model)
        rows = positive.select(broadcast(len(positive.tokens), batch, "prompts"))
        context = model.conditioner.context(rows, duration)
        if not guided:
            return context, None
        if negative is None:
            return context, null_context(batch, model.device)
        rows = negative.select(broadcast(len(negative.tokens), batch, "negative prompts"))
        return context, model.conditioner.context(rows, duration, negative=True)


def _check_frames(start: StartLatent) -> Tensor:
    """The start's frames, of the right shape and no shorter or longer than its mask."""
    frames, keep = start.frames, start.keep
    if frames.ndim != 3 or frames.shape[1] != LATENT_CHANNELS or 0 in frames.shape:
        raise InputError(
            f"The latent has shape {tuple(frames.shape)}; Stable Audio 3 needs "
            f"[batch, {LATENT_CHANNELS}, frames]. Make it with Empty Latent by Duration or "
            "SAME Encode, not for another model."
        )
    if keep is not None and keep.shape[1:] != (1, frames.shape[-1]):
        raise InputError(
            f"The mask has shape {tuple(keep.shape)}, the latent {tuple(frames.shape)}; it must be "
            f"[batch, 1, {frames.shape[-1]}]. Make it with Inpaint Mask for this latent."
        )
    return frames


def _check_fits(seconds: Sequence[float], total: int) -> None:
    """Refuse a duration that the latent is too short for."""
    longest = max(seconds)
    if effective_frames(longest) > total:
        raise InputError(
            f"The latent has {total} frames ({seconds_of_frames(total):.2f} s) but its duration is "
            f"{longest:g} s. Give the latent the duration you want."
        )
