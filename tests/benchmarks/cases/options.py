"""What a benchmark is told and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """The command line.

    Attributes:
        quick: toy shapes, for trying it out.
        out: folder for tables and pictures.
        only: parts of a benchmark; none = all.
        seconds: lengths of audio; none = all.
        rounds: instead of each row's own number.
        rows: of a job; None = the benchmark's own number.
        device: `auto`, `cpu` or `cuda`.
        peers: compare with other implementations.
        slow: also peers that take minutes.
        reference: a checkout of the original implementation, None = without it.
    """

    quick: bool = False
    out: Path = Path("output")
    only: tuple[str, ...] = ()
    seconds: tuple[float, ...] = ()
    rounds: int | None = None
    rows: int | None = None
    device: str = "auto"
    peers: bool = True
    slow: bool = False
    reference: Path | None = None


class BenchmarkError(Exception):
    """What was measured is not what it should be.

    Attributes:
        table: everything that was measured all the same.
    """

    def __init__(self, message: str, table: str) -> None:
        super().__init__(message)
        self.table = table
