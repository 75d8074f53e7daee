"""What the sampling nodes do: our MODEL run by the core, and our schedules and solvers alone."""

import logging
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ....sa3_core.checks import check_seconds
from ....sa3_core.errors import InputError, NotFiniteError
from ....sa3_core.networks.model import max_seconds
from ....sa3_core.sampling.levels import Levels
from ....sa3_core.sampling.noise import ItemNoise, Seeds
from ....sa3_core.sampling.plan import SamplingPlan
from ....sa3_core.sampling.sample import sample_latent, schedule_for
from ....sa3_core.sampling.samplers import SAMPLERS, OnStep
from ....sa3_core.sampling.settings import SampleSettings, advice
from ....sa3_core.sampling.start import StartLatent
from ....sa3_core.text.conditioning import TextConditioning
from ..host.preview import live_preview
from ..host.progress import send_text
from ..host.running import intermediate, loaded, step_reporter
from ..sockets.lora_patch import PatcherSets
from ..sockets.model import core_model, require_sa3
from ..sockets.riding import settled, stamped
from ..sockets.stock_run import describe_patches
from ..sockets.values import (
    Latent,
    durations,
    length_input,
    start_latent,
    text_conditioning,
    warn_about_duration,
)
from .coding import LONGER_SOURCE
from .model_options import honour_options
from .stock_latents import taken_latent

log = logging.getLogger(__name__)
NODE = "SA3 Sampler"


def sample(
    patcher: Any,
    latent: Latent,
    settings: SampleSettings,
    positive: list[Any],
    negative: list[Any] | None,
    seeds: Seeds,
    previews: bool = False,
) -> tuple[Latent, list[str]]:
    """Denoise a LATENT with our MODEL.

    Args:
        patcher: MODEL.
        latent: LATENT.
        settings: autos are resolved here.
        positive: CONDITIONING.
        negative: CONDITIONING or None.
        seeds: which noise to draw.
        previews: show the forming sound, where the host shows previews at all.

    Returns:
        The LATENT with its samples replaced, and sentences to show in the node.
    """
    model = require_sa3(patcher, NODE)
    info = model.info
    latent, taken = taken_latent(latent)
    latent, said = settled(latent, NODE)
    start = start_latent(latent)
    _check_length(latent, max_seconds(info.sample_size))
    if start.has_source:
        for seconds in start.seconds or ():
            check_seconds(seconds, max_seconds(info.sample_size), hint=LONGER_SOURCE)
    text = text_conditioning(positive, "positive")
    against = None if negative is None else text_conditioning(negative, "negative")
    settings, options = honour_options(patcher, settings.resolve(info.objective))
    own = _notes(latent, settings, positive, negative, info.objective)
    notes = [*taken, *said, *own, *options]
    report = step_reporter(settings.steps, live_preview(previews))
    send_text("loading the model")
    out = run(patcher, start, settings, text, against, seeds, report)
    return _result(latent, start, intermediate(out)), notes


def _check_length(latent: Latent, limit: float) -> None:
    """Refuse a piece that is too long in the words of the widget that its length was set with."""
    name, unit = length_input(latent)
    longest = max(durations(latent))
    if name == "seconds" or "seconds" not in latent or longest <= limit:
        return
    if unit == 1:
        check_seconds(longest, limit, name)
    raise InputError(
        f"is {longest / unit:g}, which lasts {longest:g} s; at most {limit / unit:.4g} fit into "
        f"the model's maximum of {limit:g} s. Choose fewer, a higher bpm or a variant with a "
        "longer limit.",
        name,
    )


def run(
    patcher: Any,
    start: StartLatent,
    settings: SampleSettings,
    positive: TextConditioning,
    negative: TextConditioning | None,
    seeds: Seeds,
    on_step: OnStep,
) -> Tensor:
    """Load our MODEL and denoise with it, its LoRAs following their intervals.

    Args:
        patcher: MODEL.
        start: latent, durations and mask.
        settings: resolved.
        positive, negative: prompts.
        seeds: which noise to draw.
        on_step: told of every step.

    Returns:
        [B, C, T] float32 on the CPU.
    """
    plan = SamplingPlan.of(core_model(patcher, patcher.model), start, positive, negative, seeds)
    memory = plan.memory(settings.guidance.active)
    sets = PatcherSets(patcher, memory)
    switch = sets if sets.intervals else None
    with loaded(patcher, memory) as model:
        net = core_model(patcher, model)
        try:
            return sample_latent(net, start, settings, positive, negative, seeds, on_step, switch)
        except NotFiniteError as error:
            raise NotFiniteError(f"{error}{describe_patches(patcher)}") from error


def _notes(
    latent: Latent,
    settings: SampleSettings,
    positive: list[Any],
    negative: list[Any] | None,
    objective: str,
) -> list[str]:
    """What the node says: settings in force, then warnings."""
    notes = [f"{settings.sampler}, {settings.steps} steps, cfg {settings.cfg:g}"]
    if settings.noise_level == 0:
        notes.append("denoise 0: the latent is returned as it came.")
    notes += advice(settings, objective, negative is not None)
    warning = warn_about_duration(positive, durations(latent))
    notes += [warning] if warning else []
    return notes


def _result(latent: Latent, start: StartLatent, samples: Tensor) -> Latent:
    """The input LATENT with new samples; per-item values follow a repeated batch."""
    out = {**latent, "samples": samples}
    batch = samples.shape[0]
    seconds = start.seconds
    if seconds is not None:
        out["seconds"] = list(seconds * batch if len(seconds) == 1 else seconds)
    mask = out.get("noise_mask")
    if mask is not None:
        out["noise_mask"] = mask[..., : samples.shape[-1]]
    if "batch_index" in out and len(out["batch_index"]) != batch:
        del out["batch_index"]
    return stamped(out)


def schedule(
    patcher: Any, settings: SampleSettings, latent: Latent | None, seconds: float
) -> tuple[Tensor, list[str]]:
    """SIGMAS for a MODEL of ours, for the longest item of the latent or for `seconds`.

    Returns:
        [steps + 1] float32 on the CPU, empty where denoise is 0; and sentences for the node.
    """
    info = require_sa3(patcher, "SA3 Scheduler").info
    if settings.noise_level == 0:
        return torch.zeros(0), []
    notes: list[str] = []
    if latent is None:
        longest = check_seconds(seconds, max_seconds(info.sample_size))
    else:
        latent, taken = taken_latent(latent)
        latent, said = settled(latent, "SA3 Scheduler")
        longest, notes = max(durations(latent)), [*taken, *said]
    settings, options = honour_options(patcher, settings.resolve(info.objective))
    return schedule_for(info.config, settings, [longest])[0], notes + options


def make_sampler(name: str) -> Any:
    """One of our solvers as a SAMPLER for SamplerCustomAdvanced.

    The stock path gives denoised latents, so v = (x - denoised) / t. Fresh noise continues the
    seed's own stream: its first draw is the initial noise.
    """
    solver = SAMPLERS[name]

    def run(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Any = None,
        disable: bool | None = None,
    ) -> Tensor:
        extra = extra_args or {}
        batch, _, frames = x.shape
        noise = ItemNoise(int(extra.get("seed") or 0), range(batch), [frames] * batch, frames)
        noise()
        state = {"x": x}
        rows = sigmas[None].expand(batch, -1).float().cpu()
        levels = Levels(x.device, rows)

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            state["x"], t = x_t, levels.placed(t)
            return (x_t - model(x_t, t, **extra)) / t[:, None, None]

        def on_step(i: int, n: int, denoised: Tensor) -> None:
            if callback is not None:
                sigma = sigmas[i]
                callback(
                    {
                        "x": state["x"],
                        "i": i,
                        "sigma": sigma,
                        "sigma_hat": sigma,
                        "denoised": denoised,
                    }
                )

        fresh = lambda: noise().to(x)  # noqa: E731
        return solver(velocity, x.float(), rows, noise=fresh, on_step=on_step).to(x)

    return comfy.samplers.KSAMPLER(torch.no_grad()(run))
