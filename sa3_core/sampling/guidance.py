"""Classifier-free guidance with adaptive projection (APG), as pure functions.

B batch, C latent channels, T latent frames; t = 1 noise, t = 0 data. The net predicts velocity
v; the data it implies is d = x - t v, and guidance works on d.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_interval, check_number, level_within


@dataclass(frozen=True)
class Guidance:
    """How strongly and where the prompt is pushed away from the negative.

    Attributes:
        cfg: guidance scale, 0 or more; 1 = the prompt alone, the negative has no effect.
        apg: 0 to 1; 1 = only the part of the push at right angles to the prediction (no
            oversaturation), 0 = plain guidance.
        interval: lowest and highest t, inclusive, between which guidance acts.
        norm_threshold: longest push allowed, as a norm over the item; 0 = no limit.
        rescale: 0 to 1; how far the guided velocity is brought back to the unguided deviation.
    """

    cfg: float
    apg: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    norm_threshold: float = 0.0
    rescale: float = 0.0

    def __post_init__(self) -> None:
        check_guidance(self.cfg, self.apg, self.interval, self.norm_threshold, self.rescale)

    @property
    def active(self) -> bool:
        """Whether a negative prediction is needed at all."""
        return self.cfg != 1

    def acts_at(self, t: Tensor) -> Tensor:
        """Bool, shaped like `t`: where guidance acts. Elsewhere the prompt alone decides."""
        inside = level_within(t, self.interval)
        return inside if self.active else torch.zeros_like(inside)


def check_guidance(
    cfg: float, apg: float, interval: tuple[float, float], norm_threshold: float, rescale: float
) -> None:
    """Raise InputError unless all values are what Guidance takes."""
    check_number("cfg", cfg, 0.0)
    check_number("apg", apg, 0.0, 1.0)
    check_interval("cfg_interval", interval)
    check_number("norm_threshold", norm_threshold, 0.0)
    check_number("rescale", rescale, 0.0, 1.0)


def project(diff: Tensor, reference: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Split a push into its parts along and at right angles to a reference.

    Sums run over channels and valid frames of each item, in float32.

    Args:
        diff: [B, C, T].
        reference: [B, C, T].
        mask: [B, T] bool, True = valid; None = all frames.

    Returns:
        (parallel, orthogonal), both [B, C, T] and 0 on frames that are not valid; their sum is
        the masked `diff`.

    Source: arXiv 2410.02416, section 4.
    """
    a, b = _masked(diff, mask), _masked(reference, mask)
    energy = (b * b).sum(dim=(1, 2), keepdim=True)
    share = (a * b).sum(dim=(1, 2), keepdim=True) / energy.clamp(min=torch.finfo(b.dtype).tiny)
    parallel = share * b
    return parallel, a - parallel


def guided_velocity(
    x: Tensor,
    t: Tensor,
    v_cond: Tensor,
    v_uncond: Tensor,
    guidance: Guidance,
    mask: Tensor | None = None,
) -> Tensor:
    """Combine the velocities of the prompt and of the negative.

    Args:
        x: [B, C, T], the latent that was given to the net.
        t: [B], its noise levels.
        v_cond: [B, C, T], velocity with the prompt.
        v_uncond: [B, C, T], velocity with the negative.
        guidance: settings.
        mask: [B, T] bool padding mask, True = valid; None = all frames.

    Returns:
        [B, C, T] float32. Where guidance does not act it is `v_cond` itself.

    Source: stable-audio-3:stable_audio_3/models/dit.py (guidance in the forward pass);
        arXiv 2410.02416.
    """
    v_cond = v_cond.float()
    if not guidance.active:
        return v_cond
    level = t.float()[:, None, None]  # (B, 1, 1)
    data = x.float() - level * v_cond
    diff = level * (v_uncond.float() - v_cond)  # = data with the prompt - data with the negative
    diff = _limit(diff, guidance.norm_threshold, mask)
    if guidance.apg > 0:
        _, orthogonal = project(diff, data, mask)
        diff = guidance.apg * orthogonal + (1 - guidance.apg) * diff
    # (x - (data + (cfg - 1) diff)) / t, written so that nothing cancels at small t
    safe_level = level.clamp(min=torch.finfo(torch.float32).tiny)
    v = v_cond - (guidance.cfg - 1) * (diff / safe_level)
    v = _rescale(v, v_cond, guidance.rescale)
    return torch.where(guidance.acts_at(level), v, v_cond)


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zero the frames that are not valid."""
    return x if mask is None else x * mask[:, None, :].to(x)


def _limit(diff: Tensor, threshold: float, mask: Tensor | None) -> Tensor:
    """Shorten each item's push to `threshold`; 0 leaves it as it is."""
    if threshold <= 0:
        return diff
    norm = _masked(diff, mask).square().sum(dim=(1, 2), keepdim=True).sqrt()
    return diff * (threshold / norm.clamp(min=torch.finfo(norm.dtype).tiny)).clamp(max=1.0)


def _rescale(v: Tensor, v_cond: Tensor, amount: float) -> Tensor:
    """Bring the deviation over channels back towards that of the unguided velocity."""
    if amount <= 0:
        return v
    deviation = v.std(dim=1, keepdim=True).clamp(min=torch.finfo(v.dtype).tiny)
    matched = v * (v_cond.std(dim=1, keepdim=True) / deviation)
    return amount * matched + (1 - amount) * v
