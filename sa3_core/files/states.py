"""Noticing that a file which is in use was replaced, cut or removed."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError

State = tuple[int, int]  # size, and nanoseconds of the last change


def state_of(path: Path) -> State | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class FileStates:
    """Files as they were when something was read from them.

    Weights stay mapped: they are read from the file whenever a net computes. One that was cut
    would end the process, one that was overwritten would change the sound, so the files are
    looked at before every run. A file that another one was renamed over stays whole while it is
    mapped, but is no longer what its name says.
    """

    states: tuple[tuple[Path, State | None], ...] = ()

    @classmethod
    def of(cls, paths: Iterable[Path]) -> "FileStates":
        """Remember files as they are now."""
        return cls(tuple((path, state_of(path)) for path in paths))

    def check(self) -> None:
        """Refuse files that are not as they were.

        Raises:
            CheckpointError: naming the first one.
        """
        for path, before in self.states:
            now = state_of(path)
            if now != before:
                what = "was removed" if now is None else "was changed or replaced"
                raise CheckpointError(
                    f"{path.name} {what} since it was loaded ({path}). Load it again."
                )
