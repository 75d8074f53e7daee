"""Solvers that walk a latent from noise to data along a schedule.

All share one signature: `sampler(velocity, x, sigmas, *, noise, on_step) -> x`, where

- velocity(x [B, C, T], t [B]) -> v [B, C, T] is the net with its guidance,
- x [B, C, T] float32 is the start, at noise level sigmas[:, 0],
- sigmas [B, n + 1] float32 holds one schedule per item (t = 1 noise, t = 0 data),
- noise() -> [B, C, T] draws fresh standard noise (used by pingpong alone),
- on_step(i, n, denoised) is told the predicted data after each evaluation.

The predicted data is x - t v. x and t stay float32; the net casts at its own door.
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
    """Step `i` of `n`, from level `t` to `t_next`, both [B, 1, 1] on the latent's device."""

    i: int
    n: int
    t: Tensor
    t_next: Tensor


def _walk(x: Tensor, sigmas: Tensor) -> Iterator[_Step]:
    """Yield the steps of a schedule, one level per item."""
    grid = sigmas.to(x).expand(x.shape[0], -1)[..., None, None]  # (B, n + 1, 1, 1)
    n = grid.shape[1] - 1
    for i in range(n):
        yield _Step(i, n, grid[:, i], grid[:, i + 1])


@SAMPLERS.add("pingpong")
def sample_pingpong(
    velocity: Velocity, x: Tensor, sigmas: Tensor, *, noise: Noise, on_step: OnStep
) -> Tensor:
    """Predict the data, put fresh noise of the next level on it, repeat.

    For few-step models (objective rf_denoiser). No noise is drawn for a step that ends at 0.

    Source: stable-audio-3:stable_audio_3/inference/sampling.py (pingpong).
    """
    draws = sigmas.reshape(-1, sigmas.shape[-1])[:, 1:].cpu().any(dim=0).tolist()
    for i, n, t, t_next in _walk(x, sigmas):
        x0 = x - t * velocity(x, t.flatten())
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
    for i, n, t, t_next in _walk(x, sigmas):
        v = velocity(x, t.flatten())
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
    for i, n, t, t_next in _walk(x, sigmas):
        h = t_next - t
        middle = t + h / 2
        k1 = velocity(x, t.flatten())
        on_step(i, n, x - t * k1)
        k2 = velocity(x + h / 2 * k1, middle.flatten())
        k3 = velocity(x + h / 2 * k2, middle.flatten())
        k4 = velocity(x + h * k3, t_next.clamp(min=_RK4_MIN_T).flatten())
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


@SAMPLERS.add("dpmpp")
def sample_dpmpp(
    velocity: Velocity, x: Tensor, sigmas: Tensor, *, noise: Noise, on_step: OnStep
) -> Tensor:
    """DPM-Solver++ (2M) for flow: second order from the previous step's prediction.

    The first and the last step are first order. A step from level 0 leaves x as it is.

    Source: arXiv 2211.01095; stable-audio-3:stable_audio_3/inference/sampling.py (dpmpp).
    """
    previous: Tensor | None = None
    last_h = torch.zeros_like(x[:, :1, :1])
    for i, n, t, t_next in _walk(x, sigmas):
        x0 = x - t * velocity(x, t.flatten())
        on_step(i, n, x0)
        h = _log_snr(t_next) - _log_snr(t)
        target = x0
        if previous is not None and i < n - 1:
            weight = _extrapolation(h, last_h)
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
    weight = h / (2 * last_h)
    return torch.where(torch.isfinite(weight), weight, torch.zeros_like(weight))
