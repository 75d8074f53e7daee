"""Solvers that walk a latent from noise to data along a schedule.

All share one signature: `sampler(velocity, x, sigmas, *, noise, on_step) -> x`, where

- velocity(x [B, C, T], t [B]) -> v [B, C, T] is the net with its guidance; t is on the CPU, where
  it says which weights and whether guidance act without waiting for the device,
- x [B, C, T] float32 is the start, at noise level sigmas[:, 0],
- sigmas [B, n + 1] float32 holds one schedule per item (t = 1 noise, t = 0 data),
- noise() -> [B, C, T] draws fresh standard noise (pingpong and dpmpp-3m-sde),
- on_step(i, n, denoised) is told the predicted data after each evaluation.

The predicted data is x - t v. x and t stay float32; the net casts at its own door.

Formulas published for y = data + sigma noise (k-diffusion) hold here with y = x / (1 - t) and
sigma = t / (1 - t). Pure noise (t = 1) has no sigma: each solver says which limit it takes there.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..registry import Registry

Velocity = Callable[[Tensor, Tensor], Tensor]
Noise = Callable[[], Tensor]
OnStep = Callable[[int, int, Tensor], None]

_RK4_MIN_T = 1e-5  # the net is never asked at t = 0 itself
_LOG_SNR_MIN = 1e-10  # keeps the log SNR of pure noise and pure data finite, as the reference does


class Sampler(Protocol):
    """A solver; see the module's docstring."""

    def __call__(
        self, velocity: Velocity, x: Tensor, sigmas: Tensor, *, noise: Noise, on_step: OnStep
    ) -> Tensor:
        """Return the latent at the last noise level of `sigmas`, [B, C, T]."""
        ...


SAMPLERS: Registry[Sampler] = Registry("sampler")


class _Step(NamedTuple):
    """Step `i` of `n`, from level `t` to `t_next`, both [B, 1, 1] on the latent's device.

    `at` and `at_next` are the same levels on the CPU, [B].
    """

    i: int
    n: int
    t: Tensor
    t_next: Tensor
    at: Tensor
    at_next: Tensor


def _walk(x: Tensor, sigmas: Tensor) -> Iterator[_Step]:
    """Yield the steps of a schedule, one level per item."""
    known = sigmas.cpu().to(x.dtype).expand(x.shape[0], -1)  # (B, n + 1)
    grid = sigmas.to(x).expand(x.shape[0], -1)[..., None, None]  # (B, n + 1, 1, 1)
    n = grid.shape[1] - 1
    for i in range(n):
        yield _Step(i, n, grid[:, i], grid[:, i + 1], known[:, i], known[:, i + 1])


@SAMPLERS.add("pingpong")
def sample_pingpong(
    velocity: Velocity, x: Tensor, sigmas: Tensor, *, noise: Noise, on_step: OnStep
) -> Tensor:
    """Predict the data, put fresh noise of the next level on it, repeat.

    For few-step models (objective rf_denoiser). No noise is drawn for a step that ends at 0.

    Source: stable-audio-3:stable_audio_3/inference/sampling.py (pingpong).
    """
    draws = _noisy_ends(sigmas)
    for i, n, t, t_next, at, _ in _walk(x, sigmas):
        x0 = x - t * velocity(x, at)
        on_step(i, n, x0)
        x = (1 - t_next) * x0 + t_next * noise().to(x) if draws[i] else x0
    return x


@SAMPLERS.add("euler")
def sample_euler(
    velocity: Velocity, x: Tensor, sigmas: Tensor, *, noise: Noise, on_step: OnStep
) -> Tensor:
    """First-order steps along the flow; the default for rectified_flow models.

    Source: stable-audio-3:stable_audio_3/inference/sampling.py (euler).
    """
    for i, n, t, t_next, at, _ in _walk(x, sigmas):
        v = velocity(x, at)
        on_step(i, n, x - t * v)
        x = x + (t_next - t) * v
    return x


@SAMPLERS.add("rk4")
def sample_rk4(
    velocity: Velocity, x: Tensor, sigmas: Tensor, *, noise: Noise, on_step: OnStep
) -> Tensor:
    """Classic fourth-order Runge-Kutta: four evaluations per step.

    Source: stable-audio-3:stable_audio_3/inference/sampling.py (rk4).
    """
    for i, n, t, t_next, at, at_next in _walk(x, sigmas):
        h = t_next - t
        middle = at + (at_next - at) / 2
        k1 = velocity(x, at)
        on_step(i, n, x - t * k1)
        k2 = velocity(x + h / 2 * k1, middle)
        k3 = velocity(x + h / 2 * k2, middle)
        k4 = velocity(x + h * k3, at_next.clamp(min=_RK4_MIN_T))
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


@SAMPLERS.add("heun")
def sample_heun(
    velocity: Velocity, x: Tensor, sigmas: Tensor, *, noise: Noise, on_step: OnStep
) -> Tensor:
    """Heun's second-order steps in sigma: two evaluations per step, one for a step to 0.

    From pure noise the corrector has no limit (its weight (1 - t') / (1 - t) grows beyond bound),
    so that step is first order.

    Source: arXiv 2206.00364, algorithm 2 without churn; k-diffusion (sample_heun).
    """
    ends = _noisy_ends(sigmas)
    for i, n, t, t_next, at, at_next in _walk(x, sigmas):
        v = velocity(x, at)
        on_step(i, n, x - t * v)
        h = t_next - t
        x = x + h * v
        if ends[i]:
            weight = (1 - t_next) / (1 - t)
            weight = torch.where((t < 1) & (t_next > 0), weight, torch.zeros_like(t))
            asked = torch.where(at_next > 0, at_next, at)  # an item at 0 already: not asked there
            x = x + weight * h / 2 * (velocity(x, asked) - v)
    return x


@SAMPLERS.add("dpmpp", "dpmpp-2m")
def sample_dpmpp(
    velocity: Velocity, x: Tensor, sigmas: Tensor, *, noise: Noise, on_step: OnStep
) -> Tensor:
    """DPM-Solver++ (2M) for flow: second order from the previous step's prediction.

    The first step and one to 0 are first order. A step from level 0 leaves x as it is. Pure noise
    counts as a log SNR of ln 1e-10, as in the reference.

    Source: arXiv 2211.01095; stable-audio-3:stable_audio_3/inference/sampling.py (dpmpp).
    """
    previous: Tensor | None = None
    last_h = torch.zeros_like(x[:, :1, :1])
    for i, n, t, t_next, at, _ in _walk(x, sigmas):
        x0 = x - t * velocity(x, at)
        on_step(i, n, x0)
        h = _log_snr(t_next) - _log_snr(t)
        target = x0
        if previous is not None:
            weight = torch.where(t_next > 0, _extrapolation(h, last_h), torch.zeros_like(h))
            target = (1 + weight) * x0 - weight * previous
        ratio = torch.where(t > 0, t_next / t, torch.ones_like(t))
        x = ratio * x + (1 - ratio) * target
        previous, last_h = x0, h
    return x


def _log_snr(t: Tensor) -> Tensor:
    """log((1 - t) / t), held finite at pure noise and pure data."""
    return torch.log((1 - t).clamp(min=_LOG_SNR_MIN) / t.clamp(min=_LOG_SNR_MIN))


def _extrapolation(h: Tensor, last_h: Tensor) -> Tensor:
    """1 / (2 r), r = last_h / h; 0 (first order) where the last step had no length."""
    return _finite(h / (2 * last_h))


@SAMPLERS.add("dpmpp-3m-sde")
def sample_dpmpp_3m_sde(
    velocity: Velocity, x: Tensor, sigmas: Tensor, *, noise: Noise, on_step: OnStep
) -> Tensor:
    """DPM-Solver++ (3M) SDE, eta 1: two earlier predictions, and fresh noise at every step.

    As published the second difference weighs half of what third order takes, so the error falls
    with the square of the step: kept, since other programs' results are met with it.
    The limit from pure noise is pingpong's step; a step that follows it has no second prediction
    to extrapolate from and is first order. No noise is drawn for a step that ends at 0. A step
    that rises follows the flow without noise (eta 0): there is none to take away.

    Source: arXiv 2211.01095; k-diffusion (sample_dpmpp_3m_sde).
    """
    draws = _noisy_ends(sigmas)
    rows = sigmas.expand(x.shape[0], -1)
    weights = [w[:, :, None, None].to(x.dtype).to(x.device) for w in _sde_weights(rows)]
    first = second = torch.zeros_like(x)  # predictions of the step before, and the one before that
    for i, n, t, _, at, _ in _walk(x, sigmas):
        old, new, slope, curve, fresh, ratio, older = (w[:, i] for w in weights)
        x0 = x - t * velocity(x, at)
        on_step(i, n, x0)
        change = (x0 - first) * ratio
        bend = change - (first - second) * older
        x = old * x + new * x0 + slope * change + curve * bend
        if draws[i]:
            x = x + fresh * noise().to(x)
        first, second = x0, first
    return x


def _sde_weights(sigmas: Tensor) -> tuple[Tensor, ...]:
    """What each step of the 3M SDE multiplies with, all [B, n] float64 on the CPU.

    Returns:
        old, new, slope, curve, fresh: weights of x, of the prediction, of its first and second
        differences, and of the noise; ratio, older: the step's length over that of the last step
        and of the one before, 0 where that cannot be extrapolated from.
    """
    grid = sigmas.cpu().double()
    t, t_next = grid[:, :-1], grid[:, 1:]
    h = -torch.log(t_next * (1 - t) / (t * (1 - t_next)))  # fall of log sigma
    h = torch.where(t_next < t, h, 0.0)  # infinite from 1 and to 0
    last, before = _earlier(h, 1), _earlier(h, 2)
    # what was predicted before a step that rose or had no length says nothing about the slope
    ratio = torch.where(torch.isfinite(h) & (last > 0), h / last, 0.0)
    older = torch.where((ratio > 0) & (before > 0), h / before, 0.0)
    share = _finite(older / (ratio + older))
    reach = 2 * h  # (1 + eta) h
    phi_2 = _finite(torch.expm1(-reach) / reach + 1)
    phi_3 = _finite(phi_2 / reach - 0.5)
    left = 1 - t_next
    keep = torch.where(t > 0, t_next / t, 1.0)
    return (
        keep * torch.exp(-h),
        torch.where(t_next > t, 1 - keep, left * -torch.expm1(-reach)),
        left * phi_2,
        left * (phi_2 - phi_3 * ratio) * share,
        t_next * torch.sqrt(-torch.expm1(-reach)),
        ratio,
        older,
    )


def _earlier(h: Tensor, steps: int) -> Tensor:
    """The lengths `steps` steps earlier, 0 where there is no such step."""
    none = h.new_zeros(h.shape[0], steps)
    return torch.cat([none, h], dim=1)[:, : h.shape[1]]


def _finite(x: Tensor) -> Tensor:
    """`x`, with 0 for what is not finite."""
    return torch.where(torch.isfinite(x), x, torch.zeros_like(x))


def _noisy_ends(sigmas: Tensor) -> list[bool]:
    """For every step, whether any item still holds noise after it."""
    return sigmas.reshape(-1, sigmas.shape[-1])[:, 1:].cpu().any(dim=0).tolist()
