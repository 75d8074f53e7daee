"""The text encoder's layers in forms that leave their weights where and as the file has them.

A layer brings its own weight to the device and into the dtype of the computation when it runs, so
that one layer is widened at a time and a host may keep the others elsewhere.
"""

from typing import Any, ClassVar, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TextLayers(Protocol):
    """Constructors of the layers that hold nearly all weights, each taking `device` and `dtype`."""

    Linear: Any
    Embedding: Any


class StoredLinear(nn.Linear):
    """torch.nn.Linear whose weight may lie on another device or in another dtype."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        bias = None if self.bias is None else self.bias.to(input)
        return F.linear(input, self.weight.to(input), bias)


class StoredEmbedding(nn.Embedding):
    """A table whose rows are looked up where it lies, which is seldom worth moving as a whole."""

    def forward(self, input: Tensor, device: torch.device | None = None) -> Tensor:
        """Ids [...] from anywhere -> rows [..., width] on `device`, in the table's dtype."""
        rows = F.embedding(input.to(self.weight.device), self.weight)
        return rows.to(input.device if device is None else device)


class StoredLayers:
    """The layers without a host."""

    Linear: ClassVar[Any] = StoredLinear
    Embedding: ClassVar[Any] = StoredEmbedding


class GainNorm(nn.Module):
    """T5Gemma's RMSNorm over the last dimension: the gain is 1 + `weight` [width].

    Source: arXiv 2504.06225, as transformers computes it.
    """

    def __init__(self, width: int, eps: float, device=None, dtype=None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, device=device, dtype=dtype))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """In float32, returned in the dtype of x."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * (1.0 + self.weight.to(wide))).type_as(x)


def replace_layers(net: nn.Module, layers: TextLayers) -> None:
    """Put these layers in the place of transformers' own, on the meta device and without weights.

    Args:
        net: transformers' encoder; its norms are known by their name, which is all they share.
        layers: what to put there.
    """
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                sizes, bias = (child.in_features, child.out_features), child.bias is not None
                setattr(parent, name, layers.Linear(*sizes, bias=bias, device="meta"))
            elif isinstance(child, nn.Embedding):
                sizes = child.num_embeddings, child.embedding_dim
                setattr(parent, name, layers.Embedding(*sizes, device="meta"))
            elif type(child).__name__.endswith("RMSNorm"):
                gain, eps = cast(Tensor, child.weight), cast(float, child.eps)
                setattr(parent, name, GainNorm(gain.shape[0], eps, device="meta"))
