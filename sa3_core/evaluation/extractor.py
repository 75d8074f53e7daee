"""Networks that scores listen with: one interface, found by name, never fetched.

An extractor takes one channel at its own sample rate. Weights lie in a folder of the user's, or
where a published package keeps them; where they are missing, the error says how to get them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from ..errors import InputError
from ..registry import Registry


class Extractor(Protocol):
    """Tells what a sound is like in numbers.

    Attributes:
        sample_rate: Hz of what it takes.
    """

    sample_rate: int

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """Rows [frames, D] for one channel [N] float32 at its sample rate."""
        ...


@runtime_checkable
class TextExtractor(Extractor, Protocol):
    """An extractor that puts texts into the same space as sounds."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """A row per text, [n, D]."""
        ...


class MissingExtractorError(InputError):
    """An extractor whose weights or package are not on this machine; says how to get them."""


Loader = Callable[[Path | None, torch.device], Extractor]  # (folder of weights, where it runs)

EXTRACTORS: Registry[Loader] = Registry("extractor")
