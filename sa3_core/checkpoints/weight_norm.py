"""Fold weight-normalised convolutions of a state dict into plain weights.

A plain weight streams like every other one under a host's memory manager; the published files hold
the pair (gain, direction) in an old or a new naming.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import CheckpointError

# (gain, direction) suffixes, both folded into ".weight".
_PAIRS = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)


def fold_pair(gain: Tensor, direction: Tensor) -> Tensor:
    """gain * direction / |direction|, the norm over all dimensions but the first.

    Args:
        gain: [out, 1, 1].
        direction: [out, in, taps].

    Returns:
        [out, in, taps] in the dtype of `direction`, computed in float32.

    Source: Salimans and Kingma, arXiv 1602.07868, as torch.nn.utils.weight_norm with dim 0.
    """
    wide = direction.float()
    norm = torch.linalg.vector_norm(wide.flatten(1), dim=1).view(-1, *[1] * (wide.dim() - 1))
    return (wide * (gain.float() / norm)).to(direction.dtype)


def fold_weight_norm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy of a state dict in which every weight-norm pair has become one `.weight`.

    Args:
        tensors: state dict with any key prefix; other tensors are passed on as they are.

    Raises:
        CheckpointError: half of a pair is missing, or the plain weight is there as well.
    """
    folded = dict(tensors)
    for gain_suffix, direction_suffix in _PAIRS:
        names = {
            key[: -len(suffix)]
            for suffix in (gain_suffix, direction_suffix)
            for key in tensors
            if key.endswith(suffix)
        }
        for name in sorted(names):
            gain = folded.pop(name + gain_suffix, None)
            direction = folded.pop(name + direction_suffix, None)
            if gain is None or direction is None:
                lost = gain_suffix if gain is None else direction_suffix
                raise CheckpointError(
                    f"The weight-normalised layer {name!r} lacks its tensor {name + lost!r}. "
                    "Is the file damaged or cut?"
                )
            if name + ".weight" in folded:
                raise CheckpointError(
                    f"The layer {name!r} has both a plain and a weight-normalised weight; "
                    "which one counts cannot be told."
                )
            folded[name + ".weight"] = fold_pair(gain, direction)
    return folded
