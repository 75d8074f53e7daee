"""LoRA maths: a low-rank factor, a rule that rescales, and one pure function W -> W'.

An adapter type is a rule (`lora`, `dora-rows`, `dora-cols`, `bora`) over a factor: `LowRank`
(stored B A), or with the suffix `-xs` `LowRankXS` (U M V^T over singular vectors of the original
weight). Every rule is a sequence of normalisations, so all eight types are the same few lines.
The strength scales the low-rank part only; stored magnitudes act in full at any strength but 0,
where the weight stays untouched. Adapters stack by chaining: W -> f1(W) -> f2(f1(W)).

Source: arXiv 2106.09685 (LoRA), 2402.09353 (DoRA), 2405.17604 (LoRA-XS), 2412.06441 (BoRA).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..registry import Registry
from .changes import WeightChange
from .kinds import Sizes, Update, in_float32

_EPS = 1e-12  # added to norms, as in training
_BLOCK_ROWS = 256  # small enough to stay in a processor's cache


@dataclass(frozen=True)
class Rule:
    """Normalisations after the low-rank update, in order.

    Attributes:
        names: the magnitude tensors' names in a file.
        axes: per magnitude, 0 = one value per row (output), 1 = one per column (input).
    """

    names: tuple[str, ...] = ()
    axes: tuple[int, ...] = ()


RULES: Registry[Rule] = Registry("LoRA rule")
RULES.add("lora")(Rule())
RULES.add("dora-rows")(Rule(("magnitude",), (0,)))
RULES.add("dora-cols")(Rule(("magnitude",), (1,)))
RULES.add("bora")(Rule(("magnitude_r", "magnitude_c"), (0, 1)))

XS_SUFFIX = "-xs"
ADAPTER_TYPES = tuple(name + suffix for suffix in ("", XS_SUFFIX) for name in RULES.names)


@dataclass(frozen=True, eq=False)
class LowRank(Update):
    """The update B A of a plain low-rank pair.

    Attributes:
        a: [r, in].
        b: [out, r].
    """

    a: Tensor
    b: Tensor

    @property
    def sizes(self) -> Sizes:
        """Rows and columns of the weight."""
        return self.b.shape[0], self.a.shape[1]

    @property
    def rank(self) -> int:
        """What alpha is divided by."""
        return self.a.shape[0]

    def sides(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Left [out, r] and right [r, in] of the product, float32 on the weight's device."""
        return in_float32(self.b, weight), in_float32(self.a, weight)

    def difference(self, weight: Tensor, strength: float) -> Tensor:
        """The product of the sides."""
        left, right = self.sides(weight)
        return left @ right


@dataclass(frozen=True, eq=False)
class LowRankXS(Update):
    """The update U M V^T between frozen singular vectors of the original weight.

    Attributes:
        u: [out, r] left singular vectors.
        v: [in, r] right singular vectors.
        m: [r, r] the trained core.
    """

    u: Tensor
    v: Tensor
    m: Tensor

    @property
    def sizes(self) -> Sizes:
        """Rows and columns of the weight."""
        return self.u.shape[0], self.v.shape[0]

    @property
    def rank(self) -> int:
        """What alpha is divided by."""
        return self.m.shape[0]

    def sides(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Left U M [out, r] and right V^T [r, in], float32 on the weight's device."""
        left = in_float32(self.u, weight) @ in_float32(self.m, weight)
        return left, in_float32(self.v, weight).T

    def difference(self, weight: Tensor, strength: float) -> Tensor:
        """The product of the sides."""
        left, right = self.sides(weight)
        return left @ right


@dataclass(frozen=True, eq=False)
class AdapterWeight(WeightChange):
    """What one LoRA, DoRA or BoRA does to one weight.

    Attributes:
        factor: the low-rank update.
        rule: a name in RULES.
        magnitudes: one vector per name of the rule, [out] or [in].
        scale: alpha / rank.

    Source: Stability-AI/stable-audio-3 stable_audio_3/models/lora/model.py, *_forward.
    """

    factor: LowRank | LowRankXS
    rule: str
    magnitudes: tuple[Tensor, ...]
    scale: float

    def _changed(self, weight: Tensor, strength: float) -> Tensor:
        left, right = self.factor.sides(weight)
        new = torch.addmm(weight.flatten(1), left, right, alpha=self.scale * strength)
        for magnitude, axis in zip(self.magnitudes, RULES[self.rule].axes, strict=True):
            gain = in_float32(magnitude, weight) / (_norms(new, axis) + _EPS)
            new.mul_(gain.unsqueeze(1 - axis))
        return new


def _norms(matrix: Tensor, axis: int) -> Tensor:
    """Lengths of the rows (axis 0) or columns (axis 1) of a matrix."""
    if axis == 0:
        return torch.linalg.vector_norm(matrix, dim=1)
    # vector_norm over rows of 12288 is 14 times slower than this and off by 3e-6
    squares = [part.square().sum(dim=0) for part in matrix.split(_BLOCK_ROWS)]
    return torch.stack(squares).sum(dim=0).sqrt()
