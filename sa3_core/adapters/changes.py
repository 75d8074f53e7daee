"""What an adapter does to one tensor of a model: pure functions W -> W', in float32."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .kinds import Shape, Update, in_float32
from .packing import Packable, unpack

_EPS = torch.finfo(torch.float32).eps  # added to norms, as ComfyUI does for float32 weights


class WeightChange(Packable, ABC):
    """What one adapter does to one weight, bias or gain."""

    @torch.no_grad()
    def apply(self, weight: Tensor, strength: float) -> Tensor:
        """Return the changed tensor; the given one is never written to.

        Args:
            weight: [out, in] (Linear), [out, in, k] (Conv1d) or a vector; any device and type.
            strength: may be negative; 0 returns `weight` itself.

        Returns:
            Shape, type and device of `weight`; computed in float32.
        """
        if strength == 0:
            return weight
        new = self._changed(weight.to(torch.float32), strength)
        return new.reshape(weight.shape).to(weight.dtype)

    def to(self, device: torch.device) -> "WeightChange":
        """The same with its tensors in float32 on a device, so that `apply` moves nothing."""
        return unpack(_moved(self.pack(), device))

    @abstractmethod
    def _changed(self, weight: Tensor, strength: float) -> Tensor:
        """A new float32 tensor of as many elements."""


@dataclass(frozen=True, eq=False)
class Added(WeightChange):
    """W + strength * scale * difference, then normalised where there is a `dora_scale`.

    The strength scales the whole change of a `dora_scale`. Its rows are divided by the norms of the
    original weight, its columns by those of the changed one: what files are tried with.

    Attributes:
        update: gives the difference.
        scale: alpha / rank.
        dora_scale: [out, 1] or [1, in], or None.

    Source: Comfy-Org/ComfyUI comfy/weight_adapter/base.py, weight_decompose.
    """

    update: Update
    scale: float = 1.0
    dora_scale: Tensor | None = None

    def fits(self, shape: Shape) -> bool:
        """Whether a tensor of this shape can be changed."""
        if not self.update.fits(shape):
            return False
        scales = self.dora_scale
        if scales is None:
            return True
        by_row = scales.ndim > 0 and scales.shape[0] == shape[0]
        return len(shape) > 1 and scales.numel() == (shape[0] if by_row else shape[1])

    def _changed(self, weight: Tensor, strength: float) -> Tensor:
        difference = self.update.difference(weight, strength).reshape(weight.shape)
        if self.dora_scale is None:
            return torch.add(weight, difference, alpha=strength * self.scale)
        new = torch.add(weight, difference, alpha=self.scale).flatten(1)
        original = weight.flatten(1)
        wanted = in_float32(self.dora_scale, weight)
        if wanted.shape[0] == weight.shape[0]:
            norms = torch.linalg.vector_norm(original, dim=1, keepdim=True)  # [out, 1]
            gain = wanted.reshape(-1, 1) / (norms + _EPS)
        else:
            kernel = new.view(*weight.shape[:2], -1)  # [out, in, k]
            norms = torch.linalg.vector_norm(kernel, dim=(0, 2))  # [in]
            gain = (wanted.reshape(-1) / (norms + _EPS)).repeat_interleave(kernel.shape[2])
        return torch.lerp(original, new * gain, strength)


@dataclass(frozen=True, eq=False)
class SetTo(WeightChange):
    """`set_weight`: the tensor itself, at any strength but 0.

    Attributes:
        value: shape of the weight.
    """

    value: Tensor

    def _changed(self, weight: Tensor, strength: float) -> Tensor:
        return in_float32(self.value, weight).clone()


@dataclass(frozen=True, eq=False)
class Chained(WeightChange):
    """Several changes of one tensor, one after the other.

    Attributes:
        changes: in order.
    """

    changes: tuple[WeightChange, ...]

    def _changed(self, weight: Tensor, strength: float) -> Tensor:
        for change in self.changes:
            weight = change.apply(weight, strength)
        return weight


@dataclass(frozen=True, eq=False)
class DiffusersRows(WeightChange):
    """A change of a differential to_qkv whose rows lie as in diffusers: [q q' k k' v].

    Attributes:
        change: of the weight in that order.

    Source: huggingface/diffusers scripts/convert_stable_audio_3_to_diffusers.py.
    """

    change: WeightChange

    def _changed(self, weight: Tensor, strength: float) -> Tensor:
        if weight.shape[0] != 5 * weight[0].numel():  # plain attention: [q k v] in both
            return self.change.apply(weight, strength)
        q, k, v, q2, k2 = weight.chunk(5)
        changed = self.change.apply(torch.cat((q, q2, k, k2, v)), strength)
        q, q2, k, k2, v = changed.chunk(5)
        return torch.cat((q, k, v, q2, k2))


def _moved(packed: Any, device: torch.device) -> Any:
    if isinstance(packed, tuple):
        return tuple(_moved(item, device) for item in packed)
    return packed.to(device, torch.float32) if isinstance(packed, Tensor) else packed
