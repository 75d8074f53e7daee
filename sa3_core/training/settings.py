"""How something is trained: lengths of steps, learning rates, what is drawn."""

import math
from dataclasses import dataclass, field

from ..checks import check_number, check_one_of, check_positive, check_seed, check_whole
from ..errors import InputError
from .draws import DrawSettings

BETAS, EPSILON, DECAY = (0.9, 0.95), 1e-8, 0.01  # of AdamW
SCHEDULES = ("constant", "inverse", "cosine")
_WARMUP, _INVERSE = 0.995, 1e6  # of `inverse`


@dataclass(frozen=True)
class TrainSettings:
    """How a LoRA or a model is trained.

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
        tag_orders: orders in which the tags of a caption are shown; 1 = as it is.
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
    tag_orders: int = 1
    draws: DrawSettings = field(default_factory=DrawSettings)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "frames", "accumulate", "tag_orders"):
            check_whole(name, getattr(self, name), 1)
        check_positive("rate", self.rate)
        check_seed(self.seed)
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
