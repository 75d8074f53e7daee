"""The layer classes the nets are built from; a host may inject its own (streaming, casting)."""

from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from .cpu_linear import linear


class Ops(Protocol):
    """Constructors of parameterised layers, each taking `device` and `dtype` like torch.nn's."""

    Linear: Any
    Conv1d: Any


class Linear(nn.Linear):
    """torch.nn.Linear through the faster of torch's CPU matrix libraries."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return linear(input, self.weight, self.bias)


class TorchOps:
    """torch.nn's layers, without a host."""

    Linear: ClassVar[Any] = Linear
    Conv1d: ClassVar[Any] = nn.Conv1d
