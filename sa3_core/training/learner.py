"""What a trainer needs of what it trains, be it a LoRA or a whole model."""

import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ..files.published import CONDITIONER_PREFIX

_BLOCK = re.compile(r"transformer\.layers\.(\d+)\.")


class Learner(Protocol):
    """Something that learns.

    Attributes:
        stem: what its files are called.
        suffix: of its files; '' = folders.
    """

    stem: str
    suffix: str

    @property
    def gains(self) -> int:
        """Magnitudes that each layer is multiplied with."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What is optimised, float32, by name; always the same tensors."""
        ...

    def attached(self) -> AbstractContextManager[None]:
        """The model computes with it inside of this block."""
        ...

    def begin_step(self, seed: int | None = None) -> None:
        """Prepare for a forward pass; a seed turns on what is random."""
        ...

    def end_backward(self) -> None:
        """Bring a step's gradients to `tensors`."""
        ...

    def end_step(self) -> None:
        """Bring new values of `tensors` into the model."""
        ...

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on; plain JSON values."""
        ...

    def changes(self) -> dict[str, float]:
        """Norm of the change of each block's weights, relative to their own."""
        ...

    def write(self, path: Path, notes: Mapping[str, Any]) -> None:
        """Write what is used afterwards; an older one is replaced when it is complete."""
        ...


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
    names = sorted(sums, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0))
    return {name: (sums[name][0] / max(sums[name][1], 1e-30)) ** 0.5 for name in names}
