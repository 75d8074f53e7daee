"""8-bit storage: matrices of the DiT's blocks lie in 8 bits.

As a rule only storage is narrow: they are widened at use, activations and products keep the compute
dtype, so every device can do it. Where a processor or an NVIDIA card multiplies 8-bit numbers, int8
is multiplied as it lies (`integer`), the fastest form on processors and not measured on cards;
norms, attention, RoPE, embeddings, the ends of the net and the sum over blocks stay as they are.
Adapters act on the widened matrix at each call: it is not rounded a second time, and the memory
that was saved stays saved.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..checks import check_one_of
from ..errors import InputError
from .integer import integer_linear, integers_pay
from .ops import linear

if TYPE_CHECKING:
    from .dit import DiffusionTransformer

STORAGES: Mapping[str, torch.dtype] = {"fp8_e4m3": torch.float8_e4m3fn, "int8": torch.int8}
SCALE = "_scale"  # suffix of a weight's scale in a state dict
_FLOAT8_DEVICES = ("cpu", "cuda", "xpu")  # others (Apple's, DirectML) cannot hold float8 tensors
_BLOCK_WEIGHT = re.compile(r"transformer\.layers\.\d+\.(?:self_attn|cross_attn|ff)\..*\.weight")
_INT8_MOST = 127.0
_ROWS = 256
_LEAST_SCALE = 1e-30  # of a row of zeros


def storages_of(device: torch.device) -> list[str]:
    """Those of STORAGES whose tensors the device can hold."""
    return [name for name in STORAGES if device.type in _FLOAT8_DEVICES or name == "int8"]


def check_storage(name: str, device: torch.device) -> str:
    """Return a name of STORAGES that the device can hold.

    Raises:
        InputError: an unknown name, or float8 on a device without it.
    """
    check_one_of("storage", name, tuple(STORAGES))
    if name not in storages_of(device):
        raise InputError(f"is {name!r}, which {device} has no numbers for; int8 works.", "storage")
    return name


def quantise(weight: Tensor, storage: str) -> tuple[Tensor, Tensor]:
    """Round a weight to 8 bits, by the rule of ComfyUI's quantised checkpoints.

    Args:
        weight: [out, in].
        storage: a name of STORAGES. int8 has a scale for each row; float8, with exponents of its
            own, one for the whole.

    Returns:
        (values, scale): 8-bit [out, in], and float32 [out, 1] or []; their product is the weight.
    """
    wide = weight.float()
    if storage == "int8":
        scale = (wide.abs().amax(dim=1, keepdim=True) / _INT8_MOST).clamp_min(_LEAST_SCALE)
        return (wide / scale).round_().clamp_(-128, _INT8_MOST).to(torch.int8), scale
    most = torch.finfo(STORAGES[storage]).max
    largest = wide.abs().amax()
    scale = torch.where(largest > 0, largest / most, torch.ones_like(largest))
    return (wide * (1.0 / scale)).clamp_(-most, most).to(STORAGES[storage]), scale


def widen(values: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight that `quantise` rounded, in a dtype; rounded to it once."""
    if scale.dim() == 0 or dtype == torch.float32 or not values.is_cpu:
        return values.to(dtype).mul_(scale)
    # A product in half precision takes float32 copies of both sides: here of a few rows at a time,
    # which stay in the processor's cache.
    wide = torch.empty(values.shape, dtype=dtype)
    parts = (tensor.split(_ROWS) for tensor in (wide, values, scale.expand(len(values), 1)))
    for into, part, factor in zip(*parts, strict=True):
        into.copy_(part.float().mul_(factor))
    return wide


class QuantisedLinear(nn.Module):
    """A linear layer whose weight lies in 8 bits.

    Attributes:
        weight: [out, in] in 8 bits; a wide one may be put in its place.
        weight_scale: float32, as from `quantise`.
        bias: [out] or None.
        change: what is done to the widened weight at each call, or None.
    """

    weight: nn.Parameter
    weight_scale: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, plain: nn.Linear, storage: str) -> None:
        """Stand in for a layer without weights of the same sizes; `plain` gives its bias away."""
        super().__init__()
        rows, columns = plain.weight.shape
        narrow = torch.empty(rows, columns, dtype=STORAGES[storage], device=plain.weight.device)
        scale = torch.empty((rows, 1) if storage == "int8" else (), device=plain.weight.device)
        self.weight = nn.Parameter(narrow, requires_grad=False)
        self.weight_scale = nn.Parameter(scale, requires_grad=False)
        self.register_parameter("bias", plain.bias)
        self.change: Callable[[Tensor], Tensor] | None = None

    def widened(self, dtype: torch.dtype) -> Tensor:
        """The weight [out, in] in a dtype, without what `change` does."""
        if self.weight.dtype not in STORAGES.values():
            return self.weight.to(dtype)
        return widen(self.weight, self.weight_scale, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out], in the input's dtype."""
        # Asked first: a card is tried out before what a compiler sees, whatever changes there.
        if integers_pay(input, self.weight) and self.change is None:
            return integer_linear(input, self.weight, self.weight_scale, self.bias)
        weight = self.widened(input.dtype)
        if self.change is not None:
            weight = self.change(weight)
        return linear(input, weight, self.bias)


def stored_narrow(key: str) -> bool:
    """Whether a tensor of the DiT, by its key, is one of the matrices that lie in 8 bits."""
    return _BLOCK_WEIGHT.fullmatch(key) is not None


def quantise_layers(net: "DiffusionTransformer", storage: str) -> None:
    """Replace the layers that are stored in 8 bits; `net` has no weights yet."""
    for path, module in list(net.named_modules()):
        if isinstance(module, nn.Linear) and stored_narrow(f"{path}.weight"):
            parent, _, name = path.rpartition(".")
            setattr(net.get_submodule(parent), name, QuantisedLinear(module, storage))


def quantise_tensors(
    tensors: dict[str, Tensor], storage: str, compute: torch.dtype
) -> dict[str, Tensor]:
    """State dict of a net that went through `quantise_layers`.

    Args:
        tensors: the DiT's tensors by key, in the file's dtype; emptied, so that a mapped file's
            weight need not stay beside its narrow form.
        storage: a name of STORAGES.
        compute: dtype of everything that stays wide (all but the blocks' matrices).
    """
    out: dict[str, Tensor] = {}
    for key in list(tensors):
        value = tensors.pop(key)
        if stored_narrow(key):
            out[key], out[key + SCALE] = quantise(value, storage)
        else:
            out[key] = value if key.endswith("inv_freq") else value.to(compute)
    return out
