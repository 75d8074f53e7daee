"""How a LoRA is to be used: how strongly, at which noise levels, on which layers."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast, get_args

import torch

from ..checks import check_interval, check_one_of, level_within
from ..errors import InputError
from ..files.published import CONDITIONER_PREFIX
from .file import AdapterFile
from .layer_filter import LayerFilter

Lora = TypeVar("Lora")  # its name, its file, or what it does to each weight
Other = TypeVar("Other")

Target = Literal["all", "transformer", "conditioner"]

ALWAYS = (0.0, 1.0)


@dataclass(frozen=True)
class AdapterUse(Generic[Lora]):
    """A LoRA and how it is to be used.

    Attributes:
        lora: checkpoint key of a weight -> what the LoRA does to it; on the way there its name,
            then its file.
        strength: for layers of the diffusion transformer; 0 leaves them as they are.
        interval: lowest and highest noise level, inclusive, at which it acts on the transformer.
        layers: which layers it acts on.
        strength_conditioner: for the duration embedding; None = as `strength`.
        partial: apply the layers that fit although others do not (an explicit choice).
        name: what the LoRA is called, e.g. when its strength is changed; a file gives its own.
    """

    lora: Lora = field(repr=False)
    strength: float = 1.0
    interval: tuple[float, float] = ALWAYS
    layers: LayerFilter = field(default_factory=LayerFilter)
    strength_conditioner: float | None = None
    partial: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        check_interval("lora_interval", self.interval)

    def with_lora(self, lora: Other) -> "AdapterUse[Other]":
        """The same use of what a name or a file turned out to be."""
        name = self.name or _name_of(self.lora) or _name_of(lora)
        return cast("AdapterUse[Other]", replace(self, lora=cast(Any, lora), name=name))

    def at(self, strength: float, target: Target = "all") -> "AdapterUse[Lora]":
        """The same LoRA at another strength.

        Args:
            strength: finite; may be negative.
            target: `transformer`, `conditioner` (the duration embedding), or `all`.

        Raises:
            InputError: a strength that is no number, or an unknown target.
        """
        if not math.isfinite(strength):
            raise InputError(f"is {strength!r}; it must be a finite number.", "strength")
        check_one_of("target", target, get_args(Target))
        if target == "all":
            return replace(self, strength=strength, strength_conditioner=None)
        if target == "conditioner":
            return replace(self, strength_conditioner=strength)
        kept = self.strength if self.strength_conditioner is None else self.strength_conditioner
        return replace(self, strength=strength, strength_conditioner=kept)

    @property
    def always(self) -> bool:
        """Whether it acts at every noise level."""
        return self.interval == ALWAYS

    def acts_at(self, t: float) -> bool:
        """Whether t, a float32 number, lies in the interval."""
        return bool(level_within(torch.tensor(t), self.interval))

    def strength_for(self, key: str) -> float:
        """Strength for the weight with this checkpoint key; 0 where it does not act."""
        if not self.layers.matches(key):
            return 0.0
        if key.startswith(CONDITIONER_PREFIX) and self.strength_conditioner is not None:
            return self.strength_conditioner
        return self.strength


def _name_of(lora: object) -> str:
    """What a LoRA is called by its file; empty where there is none."""
    if isinstance(lora, str | Path):
        return Path(str(lora).replace("\\", "/")).name
    return lora.name if isinstance(lora, AdapterFile) else ""
