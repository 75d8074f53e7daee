"""From noise to a latent: joins conditioning, schedule, guidance, solver and net.

B batch, C latent channels, T latent frames, V frames that take part (the longest item's piece and
headroom). Items are independent: neither batch nor padding changes a result.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_sound, unsound_items
from ..errors import NotFiniteError
from ..geometry import effective_frames
from ..networks.config import ModelConfig
from ..networks.model import SA3Model
from ..text.conditioning import TextConditioning
from .levels import Levels
from .noise import Seeds
from .plan import SamplingPlan
from .predictor import Predictor, WeightSwitch
from .samplers import SAMPLERS, Noise, OnStep
from .schedule import build_sigmas, chosen_shift
from .settings import SampleSettings
from .start import StartLatent


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
        InputError: counts, widths, durations or lengths that do not fit, or a latent or prompt that
            is not finite.
        NotFiniteError: the model's result is not; names the step, the items and the likely cause.
        CheckpointError: the model's file was changed since it was loaded.
    """
    model.check_files()
    for text in (positive, negative):
        if text is not None:
            check_sound(text.tokens, "The encoded prompt", "Check the step that made it.")
    settings = settings.resolve(model.objective)
    plan = SamplingPlan.of(model, start, positive, negative, seeds)
    if settings.noise_level == 0:
        return plan.frames.float().cpu()
    sigmas = schedule_for(model.config, settings, plan.seconds)
    levels = Levels(model.device, sigmas)
    predictor = Predictor(
        model=model,
        contexts=plan.contexts(settings.guidance.active),
        duration=plan.duration(),
        local=plan.local(),
        mask=plan.mask(),
        guidance=settings.guidance,
        switch=switch,
        levels=levels,
    )
    cut = _cropped(plan.noise(), plan.active)
    source = plan.source().cpu()
    first = cut()
    level = settings.noise_level
    x = (source * (1 - level) + first * level).to(model.device)
    velocity = predictor.velocity
    held = plan.kept() if settings.keep_mode == "hard" else None
    if held is not None:
        velocity = _hard_keep(velocity, levels, held.to(x), source.to(x), first.to(x))
    watch = _Watch(on_step)
    out = SAMPLERS[settings.sampler](velocity, x, sigmas, noise=cut, on_step=watch).cpu()
    watch.check(out, model.dtype)
    if held is not None:
        out = torch.where(held > 0, source, out)
    out = out * plan.valid_mask()[:, None, : plan.active]
    return F.pad(out, (0, plan.total - plan.active))


class _Watch:
    """Remembers which steps' predictions were finite, without waiting for the device."""

    def __init__(self, on_step: OnStep | None) -> None:
        self._on_step = on_step
        self._sound: list[Tensor] = []

    def __call__(self, step: int, steps: int, denoised: Tensor) -> None:
        # Half the memory of looking at each value; a sum that overflows only shifts the step named.
        self._sound.append(torch.isfinite(denoised.sum()))
        if self._on_step is not None:
            self._on_step(step, steps, denoised)

    def check(self, out: Tensor, dtype: torch.dtype) -> None:
        """Raise NotFiniteError where the result is not finite."""
        bad = unsound_items(out)
        if not bad:
            return
        steps = len(self._sound)
        first = next((i + 1 for i, good in enumerate(self._sound) if not bool(good)), steps)
        cause = "Lower the strengths of LoRAs and cfg"
        if dtype == torch.float16:
            cause = (
                "float16 overflows easily: load the model in bfloat16 or float32. If it stays, "
                "lower the strengths of LoRAs and cfg"
            )
        elif dtype != torch.float32:
            cause += ", or load the model in float32"
        raise NotFiniteError(
            f"Sampling gave NaN or infinite values from step {first} of {steps} on, in item"
            f"{'' if len(bad) == 1 else 's'} {', '.join(map(str, bad))} of {len(out)}; it was "
            f"computed in {str(dtype).removeprefix('torch.')}. {cause}."
        )


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
    shift = chosen_shift(settings.shift, settings.shift_options, config.shift)
    bounded = settings.noise_schedule == "bounded"
    return build_sigmas(settings.steps, shift, lengths, settings.noise_level, bounded)


def _hard_keep(
    velocity: Callable[[Tensor, Tensor], Tensor],
    levels: Levels,
    keep: Tensor,
    source: Tensor,
    noise: Tensor,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Put the kept frames back before, and into the prediction after, every evaluation."""

    def held(x: Tensor, t: Tensor) -> Tensor:
        level = levels.placed(t)[:, None, None]
        x_in = torch.where(keep > 0, (1 - level) * source + level * noise, x)
        # Where kept, the velocity that leads from x straight to the source.
        to_source = (x - source) / level.clamp(min=torch.finfo(x.dtype).tiny)
        return torch.where(keep > 0, to_source, velocity(x_in, t))

    return held
