"""The layer classes the nets are built from; a host may inject its own (streaming, casting)."""

from typing import Any, ClassVar, Protocol

from torch import nn


class Ops(Protocol):
    """Constructors of parameterised layers, each taking `device` and `dtype` like torch.nn's."""

    Linear: Any
    Conv1d: Any


class TorchOps:
    """Plain torch.nn layers."""

    Linear: ClassVar[Any] = nn.Linear
    Conv1d: ClassVar[Any] = nn.Conv1d
