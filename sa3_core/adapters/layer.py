"""One layer of a LoRA file: its tensors checked, and what they do to the weight and the bias."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .bases import Bases
from .changes import Chained, WeightChange
from .config import AdapterConfig
from .kinds import Shape, Sizes, matrix_fits
from .roles import alpha_of, check_numbers, low_rank_pair
from .rules import RULES, XS_SUFFIX, AdapterWeight, LowRank, LowRankXS

BasesOf = Callable[[int], Bases]  # singular vectors of a layer's weight by rank
_FACTORS = {False: ("lora_A", "lora_B"), True: ("M_xs",)}


class Layer(Protocol):
    """What a LoRA file does to one tensor of the model."""

    @property
    def kind(self) -> str:
        """What it is called: lora, dora-rows, loha, diff, ..."""
        ...

    @property
    def rank(self) -> int:
        """Of the low-rank part; 0 where there is none."""
        ...

    @property
    def scale(self) -> float:
        """alpha / rank."""
        ...

    @property
    def shape(self) -> Sizes:
        """(out, in) of the weight it was trained on, None where the file does not tell."""
        ...

    def fits(self, shape: Shape) -> bool:
        """Whether a tensor of this shape can be changed."""
        ...

    def change(self, bases: BasesOf) -> WeightChange:
        """What it does; `bases` is only asked by -xs types."""
        ...


@dataclass(frozen=True, eq=False)
class LayerTensors:
    """A layer of Stable Audio 3's own types, in the file's own precision.

    Attributes:
        low_rank: the stored pair; None for -xs types.
        core: [r, r], -xs types only.
        magnitudes: one vector per magnitude of the rule, [out] or [in].
        scale: alpha / rank of this layer.
        shape: (out, in) of the weight it was trained on, None where the file does not tell.
        rule: a name in RULES.
    """

    low_rank: LowRank | None
    core: Tensor | None
    magnitudes: tuple[Tensor, ...]
    scale: float
    shape: Sizes
    rule: str = "lora"

    @property
    def kind(self) -> str:
        """An adapter type."""
        return self.rule + (XS_SUFFIX if self.low_rank is None else "")

    @property
    def rank(self) -> int:
        """Rank of this layer."""
        tensor = self.core if self.low_rank is None else self.low_rank.a
        assert tensor is not None
        return tensor.shape[0]

    def fits(self, shape: Shape) -> bool:
        """By its sizes, and a core of -xs types by the smaller side."""
        if not matrix_fits(self.shape, shape):
            return False
        return self.core is None or self.rank <= min(shape[0], math.prod(shape[1:]))

    def change(self, bases: BasesOf) -> WeightChange:
        """The factor with its rule."""
        factor: LowRank | LowRankXS | None = self.low_rank
        if factor is None:
            assert self.core is not None
            factor = LowRankXS(*bases(self.rank), self.core)
        return AdapterWeight(factor, self.rule, self.magnitudes, self.scale)


@dataclass(frozen=True, eq=False)
class OtherLayer:
    """A layer of another kind, whose change takes nothing but the file.

    Attributes:
        kind: loha, lokr, glora, oft, boft, diff, set_weight, bias; `, dora_scale` behind it.
        made: the change.
        rank: of the low-rank part; 0 where there is none.
        scale: alpha / rank.
        shape: (out, in) of the weight it was trained on, None where the file does not tell.
        fit: tells whether a tensor of a shape can be changed.
    """

    kind: str
    made: WeightChange
    rank: int
    scale: float
    shape: Sizes
    fit: Callable[[Shape], bool]

    def fits(self, shape: Shape) -> bool:
        """As the kind says."""
        return self.fit(shape)

    def change(self, bases: BasesOf) -> WeightChange:
        """The change itself."""
        return self.made


@dataclass(frozen=True, eq=False)
class Layers:
    """Layers of several adapters in one file that change the same tensor, in order."""

    parts: tuple[Layer, ...]

    @property
    def kind(self) -> str:
        """All of theirs."""
        return ", ".join(dict.fromkeys(part.kind for part in self.parts))

    @property
    def rank(self) -> int:
        """All ranks together."""
        return sum(part.rank for part in self.parts)

    @property
    def scale(self) -> float:
        """Of the first."""
        return self.parts[0].scale

    @property
    def shape(self) -> Sizes:
        """Of the first."""
        return self.parts[0].shape

    def fits(self, shape: Shape) -> bool:
        """Where all fit."""
        return all(part.fits(shape) for part in self.parts)

    def change(self, bases: BasesOf) -> WeightChange:
        """One after the other."""
        return Chained(tuple(part.change(bases) for part in self.parts))


def joined(layers: Iterable[Layer]) -> Layer:
    """One layer for several that change the same tensor."""
    parts = tuple(layers)
    return parts[0] if len(parts) == 1 else Layers(parts)


def native_layer(
    path: str, roles: Mapping[str, Tensor], adapter_type: str, config: AdapterConfig
) -> LayerTensors:
    """Check one layer's tensors against its type; ValueError says what is wrong."""
    rule, is_xs = RULES[adapter_type.removesuffix(XS_SUFFIX)], adapter_type.endswith(XS_SUFFIX)
    wanted = {*_FACTORS[is_xs], *rule.names}
    missing, extra = sorted(wanted - roles.keys()), sorted(roles.keys() - wanted - {"alpha"})
    if missing or extra:
        fault = f"without {', '.join(missing)}" if missing else f"with {', '.join(extra)}"
        raise ValueError(f"{fault}, which does not go with the type {adapter_type!r}.")
    check_numbers({role: tensor for role, tensor in roles.items() if role != "alpha"})
    magnitudes = tuple(roles[name].flatten() for name in rule.names)
    low_rank, core = None, None
    shape: list[int | None] = [None, None]
    if is_xs:
        core = roles["M_xs"]
        if core.ndim != 2 or not core.numel() or core.shape[0] != core.shape[1]:
            raise ValueError(f"M_xs is {list(core.shape)}; it must be square.")
        rank = core.shape[0]
    else:
        low_rank = low_rank_pair(roles)
        rank = low_rank.rank
        shape = list(low_rank.sizes)
    for name, axis, magnitude in zip(rule.names, rule.axes, magnitudes, strict=True):
        if shape[axis] not in (None, magnitude.numel()):
            raise ValueError(f"{name} has {magnitude.numel()} values instead of {shape[axis]}.")
        shape[axis] = magnitude.numel()
    scale = config.scale(alpha_of(path, roles, config, rank), rank)
    name = adapter_type.removesuffix(XS_SUFFIX)
    return LayerTensors(low_rank, core, magnitudes, scale, (shape[0], shape[1]), name)
