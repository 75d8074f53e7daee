"""How much an adapter changes a model: norms of what it does to each block's weights."""

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from ..files.published import CONDITIONER_PREFIX
from .changes import WeightChange

STILL = 0.001  # relative change of the weights below which nothing has been learnt
_BLOCK = re.compile(r"transformer\.layers\.(\d+)\.")


def block_of(key: str) -> str:
    """The block that a weight belongs to, by its checkpoint key: `0`, `1`, ..., or the part."""
    found = _BLOCK.search(key)
    if found:
        return found[1]
    return "conditioner" if key.startswith(CONDITIONER_PREFIX) else "ends"


def relative_changes(squares: Iterable[tuple[str, float, float]]) -> dict[str, float]:
    """Relative norms by block.

    Args:
        squares: of each weight its checkpoint key, the squared norms of its change and of itself.
    """
    sums: dict[str, list[float]] = {}
    for key, change, own in squares:
        total = sums.setdefault(block_of(key), [0.0, 0.0])
        total[0] += change
        total[1] += own
    names = sorted(sums, key=lambda name: (not name.isdigit(), name.rjust(9)))
    return {name: (sums[name][0] / max(sums[name][1], 1e-30)) ** 0.5 for name in names}


def _square(values: Tensor) -> float:
    """The squared norm, without a copy of the values."""
    return float(torch.linalg.vector_norm(values)) ** 2


@torch.no_grad()
def adapter_changes(
    built: Mapping[str, WeightChange],
    originals: Mapping[str, Callable[[], Tensor]],
    device: torch.device | str = "cpu",
    on_layer: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Relative norms by block of what an adapter does at strength 1.

    Args:
        built: of `build_adapter`.
        originals: checkpoint key -> reads the model's own weight.
        device: to compute on, one weight at a time.
        on_layer: called as (done, total) after each weight; may raise to stop.
    """

    def squares(key: str, change: WeightChange) -> tuple[str, float, float]:
        weight = originals[key]().to(device, torch.float32)
        difference = change.apply(weight, 1.0).sub_(weight)
        return key, _square(difference), _square(weight)

    found = []
    for done, (key, change) in enumerate(built.items(), start=1):
        found.append(squares(key, change))
        on_layer(done, len(built))
    return relative_changes(found)


def describe_changes(changes: Mapping[str, float]) -> list[str]:
    """Sentences on relative changes by block.

    Args:
        changes: of `relative_changes`; none = nothing is said.
    """
    if not changes:
        return []
    mean = sum(changes.values()) / len(changes)
    blocks = ", ".join(f"{name} {change:.2%}" for name, change in changes.items())
    lines = [f"weights changed by {mean:.2%}; by block: {blocks}"]
    if mean < STILL:
        lines.append("It has hardly learnt anything: train longer, or raise the rate.")
    return lines
