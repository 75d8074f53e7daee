"""Updates that turn the rows of a weight: OFT and BOFT. Alpha limits them, and scales nothing.

Source: as for `kinds`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .kinds import Sizes, Update, in_float32


@dataclass(frozen=True, eq=False)
class OFT(Update):
    """Rotations of blocks of rows; the strength scales them, and then what they change.

    Attributes:
        oft_blocks: [blocks, b, b].
        alpha: the largest norm that the blocks may have together; None or 0 = no limit.

    Source: arXiv 2306.07280 (OFT).
    """

    oft_blocks: Tensor
    alpha: float | None = None

    def __post_init__(self) -> None:
        _check_blocks(self.oft_blocks, 3)

    @property
    def sizes(self) -> Sizes:
        """Rows and columns of the weight."""
        return self.oft_blocks.shape[0] * self.oft_blocks.shape[1], None

    def difference(self, weight: Tensor, strength: float) -> Tensor:
        """What is added, see Update."""
        turned = _rotations(self.oft_blocks, self.alpha, weight)
        change = (turned - torch.eye(turned.shape[-1], device=weight.device)).mul_(strength)
        rows = weight.reshape(*turned.shape[:2], -1)
        return torch.einsum("knm,kni->kmi", change, rows)


@dataclass(frozen=True, eq=False)
class BOFT(Update):
    """Rotations of pairs of rows in several stages, the rows interleaved as in an FFT.

    Attributes:
        oft_blocks: [stages, blocks, b, b].
        rescale: [out, 1] gain of each row, or None.
        alpha: the largest norm that the blocks may have together; None or 0 = no limit.

    Source: arXiv 2311.06243 (BOFT).
    """

    oft_blocks: Tensor
    rescale: Tensor | None = None
    alpha: float | None = None

    def __post_init__(self) -> None:
        _check_blocks(self.oft_blocks, 4)
        stages, blocks, size, _ = self.oft_blocks.shape
        rows = blocks * size
        if not rows or size % 2 or rows % (2 * 2 ** (stages - 1) * (size // 2)):
            raise ValueError(f"oft_blocks {list(self.oft_blocks.shape)} do not divide {rows} rows.")
        if self.rescale is not None and self.rescale.numel() not in (1, rows):
            raise ValueError(f"rescale has {self.rescale.numel()} values instead of {rows}.")

    @property
    def sizes(self) -> Sizes:
        """Rows and columns of the weight."""
        return self.oft_blocks.shape[1] * self.oft_blocks.shape[2], None

    def difference(self, weight: Tensor, strength: float) -> Tensor:
        """What is added, see Update."""
        turned = _rotations(self.oft_blocks, self.alpha, weight)
        size = turned.shape[-1]
        unit = torch.eye(size, device=weight.device)
        original = weight.flatten(1)  # [out, in * k]
        rows = original
        for stage, blocks in enumerate(turned):
            step = 2**stage * (size // 2)
            rows = rows.unflatten(0, (-1, 2, step)).transpose(1, 2).flatten(0, 2)
            blocks = torch.lerp(unit.expand_as(blocks), blocks, strength)
            rows = torch.bmm(blocks, rows.unflatten(0, (-1, size))).flatten(0, 1)
            rows = rows.unflatten(0, (-1, step, 2)).transpose(1, 2).flatten(0, 2)
        if self.rescale is not None:
            rows = rows * in_float32(self.rescale.reshape(-1, 1), weight)
        return rows - original


def _check_blocks(blocks: Tensor, dims: int) -> None:
    if blocks.ndim != dims or blocks.shape[-1] != blocks.shape[-2]:
        raise ValueError(f"oft_blocks is {list(blocks.shape)}; its last two sides must be equal.")


def _rotations(blocks: Tensor, limit: float | None, weight: Tensor) -> Tensor:
    """(I + Q)(I - Q)^-1 of the skew-symmetric part Q, its norm limited."""
    stored = in_float32(blocks, weight)
    skew = stored - stored.transpose(-1, -2)
    if limit:
        skew = skew * (limit / (torch.linalg.vector_norm(skew) + 1e-8)).clamp(max=1.0)
    unit = torch.eye(skew.shape[-1], device=weight.device)
    return (unit + skew) @ torch.linalg.inv(unit - skew)
