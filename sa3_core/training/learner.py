"""What a trainer needs of what it trains, be it a LoRA or a whole model."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor


class Learner(Protocol):
    """Something that learns.

    Attributes:
        stem: what its files are called.
        suffix: of its files; '' = folders.
    """

    stem: str
    suffix: str

    @property
    def scales_inputs(self) -> bool:
        """Whether the inputs of layers are multiplied with magnitudes, which keeps them twice."""
        ...

    @property
    def keeps_inputs(self) -> bool:
        """Whether the inputs of layers are asked for on the way back."""
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
