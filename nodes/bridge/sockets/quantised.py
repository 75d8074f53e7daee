"""8-bit storage: linear weights of the blocks lie in 8 bits, and are widened at use as a rule.

Where whole numbers pay, int8 is multiplied as it lies: by a kernel of comfy_kitchen, which ComfyUI
brings, if it has one for the device, else by the core.

The core's storage (`sa3_core.networks.quantised`) in ComfyUI's quantised tensors, which its memory
manager moves, streams and patches like any other weight. Formats carry ComfyUI's names
(`comfy.quant_ops.QUANT_ALGOS`).
"""

import functools
import json
from typing import Any

import comfy.model_management as mm
import comfy.ops
import comfy.quant_ops
import torch
from torch import Tensor, nn

from ....sa3_core.errors import InputError
from ....sa3_core.networks import quantised as core
from ....sa3_core.networks.integer import integer_linear, integers_pay
from ....sa3_core.networks.ops import linear
from ..host.ops import streamed_linear

_quant_ops: Any = comfy.quant_ops  # its package is optional and untyped

FORMATS = {"fp8_e4m3": "float8_e4m3fn", "int8": "int8_tensorwise"}
# comfy_kitchen's implementations with one kernel for the product and all that follows it; `eager`
# does what the core does.
_FUSED = ("cuda", "triton")


def quantised_formats() -> list[str]:
    """Those of FORMATS that this ComfyUI (int8: since 0.27.0) and this device can do."""
    if not getattr(comfy.quant_ops, "_CK_AVAILABLE", False):  # ComfyUI's optional comfy_kitchen
        return []
    names = core.storages_of(mm.get_torch_device())
    return [name for name in names if FORMATS[name] in comfy.quant_ops.QUANT_ALGOS]


@functools.cache
def quantised_classes(compute: torch.dtype) -> Any:
    """ComfyUI's layer classes for quantised weights, multiplying in the input's dtype."""
    operations = comfy.ops.mixed_precision_ops({}, compute, full_precision_mm=True)

    class Linear(operations.Linear):
        """Multiplies as the core does; the host's own class would narrow the input everywhere."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            # Built without memory, filled where the loaded tensors lie.
            self.factory_kwargs = {**self.factory_kwargs, "device": None}

        def forward(self, input: Tensor) -> Tensor:
            """Stream the weight and apply its patches as the host does, multiply."""
            comfy.ops.run_every_op()
            return streamed_linear(self, input, multiply)

    return type("QuantisedOperations", (operations,), {"Linear": Linear})


def multiply(input: Tensor, weight: Any, bias: Tensor | None) -> Tensor:
    """The core's product with a weight that may be quantised, in whole numbers where they pay."""
    if isinstance(weight, _quant_ops.QuantizedTensor):
        values, scale = weight.layout_cls.get_plain_tensors(weight)
        if integers_pay(input, values):
            product = fused_product(input, values, scale, bias)
            return integer_linear(input, values, scale, bias) if product is None else product
    return linear(input, widen(weight), bias)


def fused_product(
    input: Tensor, values: Tensor, scale: Tensor, bias: Tensor | None
) -> Tensor | None:
    """`integer_linear` by the host's own kernel for cards; None where it has none for this.

    Args:
        input: [..., in].
        values: int8 [out, in].
        scale: float32 [out, 1], or one for all.
        bias: [out] or None.
    """
    registry = getattr(getattr(_quant_ops, "ck", None), "registry", None)
    if registry is None or torch.compiler.is_compiling():  # a compiler fuses the core's by itself
        return None
    given = {
        **{"x": input, "weight": values, "weight_scale": scale, "bias": bias},
        "out_dtype": input.dtype,
    }
    for backend in _FUSED:
        if registry.validate_backend_for_call(backend, "int8_linear", given).success:
            with torch.cuda.device_of(input):  # it works on the current card
                return registry.get_implementation("int8_linear", backend=backend)(**given)
    return None


def widen(weight: Any) -> Tensor:
    """A quantised weight in its compute dtype, rounded once; a plain one as it is."""
    if not isinstance(weight, _quant_ops.QuantizedTensor):
        return weight
    # Its own dequantize() rounds float8's scale to the compute dtype: coarse in half precision.
    values, scale = weight.layout_cls.get_plain_tensors(weight)
    return core.widen(values, scale, weight.dtype)


def quantise_tensors(
    tensors: dict[str, Tensor], name: str, compute: torch.dtype
) -> dict[str, Tensor]:
    """State dict of a DiT for `quantised_classes`, laid out as ComfyUI's quantised checkpoints are.

    Args:
        tensors: the DiT's tensors by key, in the file's dtype; emptied on the way.
        name: one of FORMATS.
        compute: dtype of everything that stays wide (all but the blocks' matrices).
    """
    mark = torch.tensor(list(json.dumps({"format": FORMATS[name]}).encode()), dtype=torch.uint8)
    out = core.quantise_tensors(tensors, name, compute)
    layers = [key.removesuffix("weight" + core.SCALE) for key in out if key.endswith(core.SCALE)]
    return out | {layer + "comfy_quant": mark for layer in layers}


def refuse_saving(net: nn.Module, prefix: str, keep_vars: bool) -> None:
    """State-dict hook of a quantised DiT: the host asks for its state alone only to write a file.

    It could not: int8 weights that are not resident fail there with a message about gradients.

    Raises:
        InputError: always, unless the DiT is asked as part of the whole model.
    """
    if not prefix:
        raise InputError(
            "This MODEL's weights are stored in 8 bits; a file of them would lack the original "
            "ones. Load it with precision auto to save it, or use Save SA3 Model, which merges "
            "LoRAs into the original weights."
        )
