"""Everything random in a training step, drawn per item from the run's seed, the step and its place.

So no batch size, number of workers or device changes what an item gets.
"""

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..geometry import HOP, LATENT_CHANNELS, SAMPLE_RATE
from ..registry import Registry
from ..sampling.schedule import Shift
from .inpaint import InpaintOdds, draw_inpaint_mask

SILENCE_SECONDS = 4.0  # mean of the silence that is scored behind a clip
_TRUNCATION = 0.075  # the lowest share of sigmoid(normal) that is drawn

TimestepRule = Callable[[Tensor], Tensor]
TIMESTEPS: Registry[TimestepRule] = Registry("timestep sampler")


@TIMESTEPS.add("trunc_logit_normal")
def truncated_logit_normal(normal: Tensor) -> Tensor:
    """1 minus a logit-normal share, cut off below 0.075 and stretched to (0, 1].

    Args:
        normal: standard normal draws, any shape.

    Source: stable-audio-3 training code, truncated_logistic_normal_rescaled.
    """
    lowest = torch.special.ndtr(torch.tensor(math.log(_TRUNCATION / (1 - _TRUNCATION))).double())
    share = lowest + (1 - lowest) * torch.special.ndtr(normal.double())
    share = share.clamp(max=1 - 2.0**-24)
    level = torch.sigmoid(torch.special.ndtri(share))
    return (1 - (level - _TRUNCATION) / (1 - _TRUNCATION)).float()


@TIMESTEPS.add("uniform")
def uniform(normal: Tensor) -> Tensor:
    """Every noise level alike."""
    return torch.special.ndtr(normal)


@TIMESTEPS.add("logit_normal")
def logit_normal(normal: Tensor) -> Tensor:
    """sigmoid(normal): middle noise levels more often."""
    return torch.sigmoid(normal)


@TIMESTEPS.add("log_snr")
def log_snr(normal: Tensor) -> Tensor:
    """Log signal-to-noise ratios around -1.2 with a deviation of 2."""
    return torch.sigmoid(1.2 - 2 * normal).clamp(1e-4, 1 - 1e-4)


@TIMESTEPS.add("log_snr_uniform")
def log_snr_uniform(normal: Tensor) -> Tensor:
    """Log signal-to-noise ratios from -6 to 5, all alike."""
    return torch.sigmoid(6 - 11 * torch.special.ndtr(normal)).clamp(1e-4, 1 - 1e-4)


@dataclass(frozen=True)
class DrawSettings:
    """What is drawn, and how often.

    Attributes:
        timesteps: a name of TIMESTEPS.
        inpaint: odds of the kinds of inpainting masks.
        text_dropout: probability that an item is trained without prompt and duration token.
        silence_seconds: mean length of the silence behind a clip that is scored with it.
    """

    timesteps: str = "trunc_logit_normal"
    inpaint: InpaintOdds = field(default_factory=InpaintOdds)
    text_dropout: float = 0.1
    silence_seconds: float = SILENCE_SECONDS


@dataclass(frozen=True, eq=False)
class ItemDraws:
    """What one item of a step gets.

    Attributes:
        level: u in (0, 1], before the shift.
        noise: [C, T] float32 on the CPU.
        scored: bool [T], frames that are scored and attended to.
        given: float32 [1, T], the inpainting mask, 1 = given.
        dropped: trained without prompt and duration token.
    """

    level: Tensor
    noise: Tensor
    scored: Tensor
    given: Tensor
    dropped: bool


def item_seed(seed: int, *place: int | str) -> int:
    """A seed for one place in a run, unrelated to that of any other place."""
    text = ",".join(str(part) for part in (seed, *place))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def draw_item(settings: DrawSettings, seed: int, valid: int, frames: int) -> ItemDraws:
    """Draw what one item gets.

    Args:
        settings: what is drawn.
        seed: of the item, from `item_seed`.
        valid: frames of the clip itself, the first ones.
        frames: T.
    """
    numbers, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    normal = torch.randn((), generator=generator)
    noise = torch.randn(LATENT_CHANNELS, frames, generator=generator)
    extension = int(-math.log1p(-numbers.random()) * settings.silence_seconds * SAMPLE_RATE / HOP)
    scored = min(valid + extension, frames)
    dropped = numbers.random() < settings.text_dropout
    return ItemDraws(
        level=TIMESTEPS[settings.timesteps](normal),
        noise=noise,
        scored=torch.arange(frames) < scored,
        given=draw_inpaint_mask(numbers, settings.inpaint, scored, frames),
        dropped=dropped,
    )


def shifted_levels(levels: Tensor, shift: Shift, lengths: Sequence[int]) -> Tensor:
    """Noise levels t [B] float32: each u bent by the shift at its own item's length in frames."""
    pairs = zip(levels.float(), lengths, strict=True)
    return torch.stack([shift.apply(level, length) for level, length in pairs])


def couple(clips: Tensor, noise: Tensor, rounds: int = 20) -> Tensor:
    """Match each clip of a batch with the noise that is nearest to it, each noise used once.

    Args:
        clips: [B, C, T].
        noise: [B, C, T].
        rounds: of row and column normalisation.

    Returns:
        int64 [B]: `noise[order]` goes with `clips`.

    Source: stable-audio-3 training code, minibatch optimal transport by Sinkhorn and greedy choice.
    """
    if clips.shape[0] == 1:
        return torch.zeros(1, dtype=torch.long)
    distance = torch.cdist(clips.flatten(1).float(), noise.flatten(1).float()).square()
    plan = -distance / distance.mean()
    for _ in range(rounds):
        plan = plan - torch.logsumexp(plan, dim=1, keepdim=True)
        plan = plan - torch.logsumexp(plan, dim=0, keepdim=True)
    order: list[int] = []
    for row in plan.cpu():
        row[order] = -torch.inf
        order.append(int(row.argmax()))
    return torch.tensor(order)
