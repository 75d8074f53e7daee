"""ComfyUI's layer classes, with linear layers through the faster CPU library where that helps."""

import functools
from collections.abc import Callable
from typing import Any

import comfy.model_management as mm
import comfy.ops
from torch import Tensor

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
