"""The kinds of updates in LoRA files, one class each; its fields bear the names of the tensors.

Those that turn rows instead of adding to them are in `rotations`.

An update gives the difference that is added to a weight. All of it is computed in float32 on the
weight's device.

Source: KohakuBlueleaf/LyCORIS (the formats); Comfy-Org/ComfyUI comfy/weight_adapter (what they do
there, which is what files are tried with).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from .packing import Packable

Shape = tuple[int, ...]
Sizes = tuple[
    int | None, int | None
]  # out, in * k of the matrix; None where the file does not tell


class Update(Packable, ABC):
    """What is added to a weight."""

    @property
    @abstractmethod
    def sizes(self) -> Sizes:
        """Rows and columns of the weight that it was trained on."""

    @property
    def rank(self) -> int | None:
        """What alpha is divided by; None where alpha does not scale."""
        return None

    def fits(self, shape: Shape) -> bool:
        """Whether a weight of this shape can be changed."""
        return matrix_fits(self.sizes, shape)

    @abstractmethod
    def difference(self, weight: Tensor, strength: float) -> Tensor:
        """What is added at strength and scale 1, as many elements as `weight` (float32) has.

        Args:
            weight: what it is added to, [out, in] or [out, in, k]; read only.
            strength: for kinds whose difference itself depends on it.
        """


def matrix_fits(sizes: Sizes, shape: Shape) -> bool:
    """Whether a weight of this shape, seen as a matrix, has the sizes that are known."""
    if len(shape) < 2:
        return False
    return all(
        mine in (None, its)
        for mine, its in zip(sizes, (shape[0], math.prod(shape[1:])), strict=True)
    )


def in_float32(tensor: Tensor, like: Tensor) -> Tensor:
    """A stored tensor on the device of `like`, float32."""
    return tensor.to(device=like.device, dtype=torch.float32)


@dataclass(frozen=True, eq=False)
class Difference(Update):
    """The difference itself: `diff`, `diff_b`, `w_norm`, `b_norm` or the bias of a `lora_B`.

    Attributes:
        diff: shape of the weight, bias or gain.
    """

    diff: Tensor

    @property
    def sizes(self) -> Sizes:
        """Rows and columns of the weight."""
        return sizes_of(self.diff)

    def fits(self, shape: Shape) -> bool:
        """Whether a weight of this shape can be changed."""
        return tensor_fits(self.diff, shape)

    def difference(self, weight: Tensor, strength: float) -> Tensor:
        """What is added, see Update."""
        return in_float32(self.diff, weight)


def sizes_of(tensor: Tensor) -> Sizes:
    """Rows and columns of a tensor of a weight's own shape."""
    if tensor.ndim < 2:
        return (tensor.numel(), None)
    return (tensor.shape[0], math.prod(tensor.shape[1:]))


def tensor_fits(tensor: Tensor, shape: Shape) -> bool:
    """Whether a tensor stands for one of this shape; kernel axes of one tap may be left out."""
    if tensor.ndim < 2 or len(shape) < 2:
        return tuple(tensor.shape) == tuple(shape)
    return matrix_fits(sizes_of(tensor), shape)


@dataclass(frozen=True, eq=False)
class LoHa(Update):
    """(w1_a w1_b) * (w2_a w2_b), with t1 and t2 the cores of a Tucker decomposition.

    Attributes:
        hada_w1_a, hada_w2_a: [out, r]; with a core [r, out].
        hada_w1_b, hada_w2_b: [r, in * k]; with a core [r, in].
        hada_t1, hada_t2: [r, r, k] or None.

    Source: arXiv 2108.06098 (FedPara).
    """

    hada_w1_a: Tensor
    hada_w1_b: Tensor
    hada_w2_a: Tensor
    hada_w2_b: Tensor
    hada_t1: Tensor | None = None
    hada_t2: Tensor | None = None

    def __post_init__(self) -> None:
        first = _factored_shape(self.hada_w1_a, self.hada_w1_b, self.hada_t1, "hada_w1")
        second = _factored_shape(self.hada_w2_a, self.hada_w2_b, self.hada_t2, "hada_w2")
        if first != second:
            raise ValueError(f"hada_w1 makes {list(first)} and hada_w2 {list(second)}.")

    @property
    def sizes(self) -> Sizes:
        """Rows and columns of the weight."""
        shape = _factored_shape(self.hada_w1_a, self.hada_w1_b, self.hada_t1, "hada_w1")
        return shape[0], math.prod(shape[1:])

    @property
    def rank(self) -> int:
        """What alpha is divided by."""
        return self.hada_w1_b.shape[0]

    def difference(self, weight: Tensor, strength: float) -> Tensor:
        """What is added, see Update."""
        first = _product(self.hada_w1_a, self.hada_w1_b, self.hada_t1, weight)
        return first.mul_(_product(self.hada_w2_a, self.hada_w2_b, self.hada_t2, weight))


@dataclass(frozen=True, eq=False)
class LoKr(Update):
    """The Kronecker product of w1 and w2, each whole or as a product of two factors.

    Alpha is divided by the rank of the last factored one and has no effect where both are whole.

    Attributes:
        lokr_w1: [o1, i1], or lokr_w1_a [o1, r] and lokr_w1_b [r, i1].
        lokr_w2: [o2, i2] or [o2, i2, k], or lokr_w2_a [o2, r] and lokr_w2_b [r, i2 * k], with
            lokr_t2 [r, r, k] lokr_w2_a [r, o2] and lokr_w2_b [r, i2].

    Source: arXiv 2309.14859 (LyCORIS).
    """

    lokr_w1: Tensor | None = None
    lokr_w2: Tensor | None = None
    lokr_w1_a: Tensor | None = None
    lokr_w1_b: Tensor | None = None
    lokr_w2_a: Tensor | None = None
    lokr_w2_b: Tensor | None = None
    lokr_t2: Tensor | None = None

    def __post_init__(self) -> None:
        self._shapes()

    def _shapes(self) -> tuple[Shape, Shape]:
        first = _whole_or_factored("lokr_w1", self.lokr_w1, self.lokr_w1_a, self.lokr_w1_b, None)
        second = _whole_or_factored(
            "lokr_w2", self.lokr_w2, self.lokr_w2_a, self.lokr_w2_b, self.lokr_t2
        )
        if len(first) != 2:
            raise ValueError(f"lokr_w1 is {list(first)}; it must be a matrix.")
        return first, second

    @property
    def sizes(self) -> Sizes:
        """Rows and columns of the weight."""
        first, second = self._shapes()
        return first[0] * second[0], first[1] * math.prod(second[1:])

    @property
    def rank(self) -> int | None:
        """What alpha is divided by."""
        for whole, factor in ((self.lokr_w2, self.lokr_w2_b), (self.lokr_w1, self.lokr_w1_b)):
            if whole is None and factor is not None:
                return factor.shape[0]
        return None

    def difference(self, weight: Tensor, strength: float) -> Tensor:
        """What is added, see Update."""
        first = _either(self.lokr_w1, self.lokr_w1_a, self.lokr_w1_b, None, weight)
        second = _either(self.lokr_w2, self.lokr_w2_a, self.lokr_w2_b, self.lokr_t2, weight)
        first = first.reshape(*first.shape, *[1] * (second.ndim - 2))  # else the axes are mixed up
        return torch.kron(first.contiguous(), second.contiguous())


@dataclass(frozen=True, eq=False)
class GLoRA(Update):
    """W A + B, both low-rank, in the order of today's files or of old ones.

    Both orders fit the same files where the rank equals a side; then the weight's shape decides.

    Attributes:
        a1: [in, r]; old files [r, in].
        a2: [r, in]; old [in, r].
        b1: [out, r]; old [r, in].
        b2: [r, in]; old [out, r].
        alpha: divided by the rank; None = a scale of 1.

    Source: arXiv 2306.07967 (GLoRA).
    """

    a1: Tensor
    a2: Tensor
    b1: Tensor
    b2: Tensor
    alpha: float | None = None

    def __post_init__(self) -> None:
        factors = (self.a1, self.a2, self.b1, self.b2)
        if any(t.ndim < 2 for t in factors) or not (self._is_old or self._is_new):
            shapes = [list(t.shape) for t in factors]
            raise ValueError(f"a1, a2, b1 and b2 are {shapes}; they do not share one rank.")

    @property
    def _is_old(self) -> bool:
        a1, a2, b1, b2 = self._matrices
        same = b2[1] == b1[0] == a1[0] == a2[1]
        return same and a1[1] == a2[0] == b1[1]

    @property
    def _is_new(self) -> bool:
        a1, a2, b1, b2 = self._matrices
        return b2[0] == b1[1] == a1[1] == a2[0] and a1[0] == a2[1]

    @property
    def _matrices(self) -> tuple[Shape, ...]:
        return tuple(
            (t.shape[0], math.prod(t.shape[1:])) for t in (self.a1, self.a2, self.b1, self.b2)
        )

    @property
    def sizes(self) -> Sizes:
        """Rows and columns of the weight."""
        _, _, b1, b2 = self._matrices
        if self._is_old and self._is_new:
            return None, None
        return (b2[0], b1[1]) if self._is_old else (b1[0], b2[1])

    @property
    def rank(self) -> int:
        """What alpha is divided by."""
        return self.a2.flatten(1).shape[1] if not self._is_new else self.a2.shape[0]

    def fits(self, shape: Shape) -> bool:
        """Whether a weight of this shape can be changed."""
        _, _, b1, b2 = self._matrices
        old = self._is_old and matrix_fits((b2[0], b1[1]), shape)
        return old or (self._is_new and matrix_fits((b1[0], b2[1]), shape))

    def _old_for(self, weight: Tensor) -> bool:
        if not self._is_new:
            return True
        square = weight.shape[0] == weight.shape[1]
        return self._is_old and square and self.a2.shape[0] == weight.shape[0]

    def difference(self, weight: Tensor, strength: float) -> Tensor:
        """What is added, see Update."""
        a1, a2, b1, b2 = (
            in_float32(t.flatten(1), weight) for t in (self.a1, self.a2, self.b1, self.b2)
        )
        old = self._old_for(weight)
        rank = a1.shape[0] if old else a2.shape[0]
        if old:
            made = torch.addmm(b2 @ b1, weight.flatten(1) @ a2, a1)
        else:
            # Each tap of a kernel is multiplied from the right by A [in, in].
            through = torch.einsum("oi...,ij,jk->ok...", weight, a1, a2)
            made = (b1 @ b2).view(weight.shape) + through
        return made if self.alpha is None else made.mul_(self.alpha / rank)


def _factored_shape(a: Tensor, b: Tensor, core: Tensor | None, name: str) -> Shape:
    """Shape of a b, or of the Tucker product around a core; ValueError where they do not fit."""
    shapes = f"{name}_a {list(a.shape)} and {name}_b {list(b.shape)}"
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"{shapes} must be matrices.")
    if core is None:
        if a.shape[1] != b.shape[0]:
            raise ValueError(f"{shapes} do not share one rank.")
        return a.shape[0], b.shape[1]
    if core.ndim < 2 or (a.shape[0], b.shape[0]) != tuple(core.shape[:2]):
        raise ValueError(f"{shapes} do not fit a core of {list(core.shape)}.")
    return a.shape[1], b.shape[1], *core.shape[2:]


def _product(a: Tensor, b: Tensor, core: Tensor | None, weight: Tensor) -> Tensor:
    """a b, or the Tucker product of a [i, out] and b [j, in] around a core [i, j, k]."""
    a, b = in_float32(a, weight), in_float32(b, weight)
    if core is None:
        return a @ b
    return torch.einsum("ij...,jr,ip->pr...", in_float32(core, weight), b, a)


def _whole_or_factored(
    name: str, whole: Tensor | None, a: Tensor | None, b: Tensor | None, core: Tensor | None
) -> Shape:
    if whole is not None:
        if whole.ndim < 2:
            raise ValueError(f"{name} is {list(whole.shape)}; it must be a matrix.")
        return tuple(whole.shape)
    if a is None or b is None:
        raise ValueError(f"without {name}, or {name}_a with {name}_b.")
    return _factored_shape(a, b, core, name)


def _either(
    whole: Tensor | None, a: Tensor | None, b: Tensor | None, core: Tensor | None, weight: Tensor
) -> Tensor:
    if whole is not None:
        return in_float32(whole, weight)
    assert a is not None
    assert b is not None
    return _product(a, b, core, weight)
