"""ComfyUI's layer classes, with linear layers through the faster CPU library where that helps."""

import functools
from collections.abc import Callable
from typing import Any

import comfy.model_management as mm
import comfy.ops
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....sa3_core.networks.ops import linear, onednn_is_faster


def layer_classes(weight_dtype: Any, cast_dtype: Any) -> Any:
    """What the host would pick for these dtypes (streaming, casting, patches), for our nets."""
    return faster_on_cpu(comfy.ops.pick_operations(weight_dtype, cast_dtype))


def streamed_linear(
    layer: Any, input: Tensor, multiply: Callable[[Tensor, Any, Tensor | None], Tensor] = linear
) -> Tensor:
    """Cast or stream the layer's weight and apply its patches as the host does, multiply.

    Args:
        layer: of one of the host's Linear classes.
        input: [..., in].
        multiply: input, weight and bias, where the weight is stored as something else.
    """
    weight, bias, stream = comfy.ops.cast_bias_weight(layer, input, offloadable=True)
    out = multiply(input, weight, bias)
    comfy.ops.uncast_bias_weight(layer, weight, bias, stream)
    return out


@functools.cache
def faster_on_cpu(operations: Any) -> Any:
    """`operations` with its Linear sped up where `sa3_core.networks.ops.linear` is faster."""
    if not (mm.is_device_cpu(mm.get_torch_device()) and onednn_is_faster()):
        return operations

    class Linear(operations.Linear):
        """Both of the host's paths (resident and cast on the fly) give identical results."""

        def forward_comfy_cast_weights(self, input: Tensor) -> Tensor:
            """Cast or stream the weight, apply its patches, multiply."""
            return streamed_linear(self, input)

        def forward(self, input: Tensor) -> Tensor:
            """The host's choice of path, and its check for interruption."""
            if self.comfy_cast_weights or self.weight_function or self.bias_function:
                return super().forward(input)
            comfy.ops.run_every_op()
            return linear(input, self.weight, self.bias)

    return type("FastCPUOperations", (operations,), {"Linear": Linear})


class RowsOfTable(nn.Embedding, comfy.ops.CastWeightBiasOp):
    """An embedding table that stays where the host has put it; only rows are moved.

    Tables are the largest part of a text encoder, and a prompt asks for few rows. A patched one is
    brought to the device as a whole, as the host does with any layer.
    """

    comfy_cast_weights = True  # tells the host that it may leave it out of the card's memory
    bias = None

    def forward(self, input: Tensor, device: torch.device | None = None) -> Tensor:
        """Ids [...] from anywhere -> rows [..., width] on `device`."""
        comfy.ops.run_every_op()
        device = input.device if device is None else device
        if self.weight_function or getattr(self, "weight_lowvram_function", None) is not None:
            weight, bias, stream = comfy.ops.cast_bias_weight(
                self, device=device, dtype=self.weight.dtype, offloadable=True
            )
            rows = F.embedding(input.to(device), weight)
            comfy.ops.uncast_bias_weight(self, weight, bias, stream)
            return rows
        return F.embedding(input.to(self.weight.device), self.weight).to(device)


def text_layers(compute: torch.dtype) -> Callable[[torch.dtype], Any]:
    """Layer classes for a text encoder that computes in `compute`, by what its weights are in."""

    def make(stored: torch.dtype) -> Any:
        operations = layer_classes(stored, compute)
        return type("TextLayers", (), {"Linear": operations.Linear, "Embedding": RowsOfTable})

    return make
