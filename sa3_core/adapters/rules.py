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
class LowRank:
    """The update B A of a plain low-rank pair.

    Attributes:
        a: [r, in].
        b: [out, r].
    """

    a: Tensor
    b: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The stored tensors, in constructor order."""
        return self.a, self.b

    def sides(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Left [out, r] and right [r, in] of the product, float32 on `device`."""
        return _float(self.b, device), _float(self.a, device)


@dataclass(frozen=True, eq=False)
class LowRankXS:
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
    def tensors(self) -> tuple[Tensor, ...]:
        """The stored tensors, in constructor order."""
        return self.u, self.v, self.m

    def sides(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Left U M [out, r] and right V^T [r, in] of the product, float32 on `device`."""
        return _float(self.u, device) @ _float(self.m, device), _float(self.v, device).T


Packed = tuple[str, float, tuple[Tensor, ...], tuple[Tensor, ...]]


@dataclass(frozen=True, eq=False)
class AdapterWeight:
    """What one adapter does to one weight.

    Attributes:
        factor: the low-rank update.
        rule: a name in RULES.
        magnitudes: one vector per name of the rule, [out] or [in].
        scale: alpha / rank.
    """

    factor: LowRank | LowRankXS
    rule: str
    magnitudes: tuple[Tensor, ...]
    scale: float

    @torch.no_grad()
    def apply(self, weight: Tensor, strength: float) -> Tensor:
        """Return the adapted weight; the given one is never written to.

        Args:
            weight: [out, in] (Linear) or [out, in, k] (Conv1d), any device and float type.
            strength: factor of the low-rank update, may be negative; 0 returns `weight` itself.

        Returns:
            Shape, type and device of `weight`; computed in float32.

        Source: Stability-AI/stable-audio-3 stable_audio_3/models/lora/model.py, *_forward.
        """
        if strength == 0:
            return weight
        base = weight.flatten(1).to(torch.float32)  # [out, in * k]
        left, right = self.factor.sides(weight.device)
        new = torch.addmm(base, left, right, alpha=self.scale * strength)
        for magnitude, axis in zip(self.magnitudes, RULES[self.rule].axes, strict=True):
            gain = _float(magnitude, weight.device) / (_norms(new, axis) + _EPS)
            new.mul_(gain.unsqueeze(1 - axis))
        return new.view(weight.shape).to(weight.dtype)

    def to(self, device: torch.device) -> "AdapterWeight":
        """The same with its tensors in float32 on a device, so that `apply` moves nothing."""
        rule, scale, *groups = self.pack()
        factor, magnitudes = (tuple(_float(t, device) for t in group) for group in groups)
        return AdapterWeight.unpack((rule, scale, factor, magnitudes))

    def pack(self) -> Packed:
        """The whole adapter as nested tuples of tensors and plain values (see `unpack`)."""
        return self.rule, self.scale, self.factor.tensors, self.magnitudes

    @classmethod
    def unpack(cls, packed: Packed) -> "AdapterWeight":
        """Rebuild what `pack` took apart: a host may move the tensors in between."""
        rule, scale, tensors, magnitudes = packed
        kind = LowRank if len(tensors) == 2 else LowRankXS
        return cls(kind(*tensors), rule, tuple(magnitudes), scale)


def _norms(matrix: Tensor, axis: int) -> Tensor:
    """Lengths of the rows (axis 0) or columns (axis 1) of a matrix."""
    if axis == 0:
        return torch.linalg.vector_norm(matrix, dim=1)
    # vector_norm over rows of 12288 is 14 times slower than this and off by 3e-6
    squares = [part.square().sum(dim=0) for part in matrix.split(_BLOCK_ROWS)]
    return torch.stack(squares).sum(dim=0).sqrt()


def _float(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device=device, dtype=torch.float32)
