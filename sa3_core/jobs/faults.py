"""What is wrong with a manifest, all of it at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

_MOST_SHOWN = 100  # faults that a message lists


@dataclass(frozen=True)
class Fault:
    """What is wrong with one cell or one row.

    Attributes:
        line: of the manifest, from 1.
        column: as the manifest names it; empty = the row as a whole.
        text: a sentence.
    """

    line: int
    column: str
    text: str

    def __str__(self) -> str:
        """`line 3, seconds: is 'long'; it must be a number.`"""
        place = f"line {self.line}" + (f", {self.column}" if self.column else "")
        return f"{place}: {self.text}"


class ManifestError(InputError):
    """A manifest with faults.

    Attributes:
        faults: all of them, in the order of lines.
    """

    def __init__(self, path: Path, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line))
        count = len(self.faults)
        lines = [str(fault) for fault in self.faults[:_MOST_SHOWN]]
        if count > _MOST_SHOWN:
            lines.append(f"and {count - _MOST_SHOWN} more")
        what = "1 fault" if count == 1 else f"{count} faults"
        super().__init__(f"{path.name} has {what}; nothing was made.\n" + "\n".join(lines))
