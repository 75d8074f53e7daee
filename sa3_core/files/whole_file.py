"""Files that appear under their name only when they are complete, and never in another's place."""

import errno
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from .lock import only_one
from .names import DISK_FULL, name_fault, short_name

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_PART_FOLDER = ".copy-"  # in front of the names of folders that are being written
_PART = re.compile(r"\.[0-9a-f]{32}\.part")
_SETTLED = 60.0  # seconds; where files cannot be locked, a younger one may be about to get its name


@dataclass(frozen=True)
class FreeName:
    """A name that is chosen when the file is complete: the first number that is free by then.

    Attributes:
        folder: of the file.
        name: before the number.
        suffix: with the dot.
        first: number to begin with.
    """

    folder: Path
    name: str
    suffix: str = ""
    first: int = 1

    def paths(self) -> Iterator[Path]:
        """The names in order, taken or not."""
        number = self.first
        while True:
            yield self.folder / f"{self.name}_{number:05}{self.suffix}"
            number += 1


@dataclass(frozen=True)
class NewName:
    """A name that no file has yet. One that gets it meanwhile keeps it: ours is numbered then.

    Attributes:
        path: the file, or the folder.
    """

    path: Path

    def paths(self) -> Iterator[Path]:
        """The name itself, then numbered ones."""
        yield self.path
        yield from FreeName(self.path.parent, self.path.stem, self.path.suffix).paths()


Place = Path | FreeName | NewName


class WholeFile:
    """What `whole_file` gives: the open file, and the name that it got once the block has ended."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.path = Path()


def name_of(place: Place) -> Path:
    """The name that a message can use before the number is known."""
    return place if isinstance(place, Path) else next(place.paths())


@contextmanager
def whole_file(place: Place) -> Iterator[WholeFile]:
    """Open a temporary file in the folder of `place` and name it when the block ends well.

    An existing file of a fixed name is replaced; after a failure it is untouched and nothing is
    left behind. Other names are claimed in one step of the file system, so that processes that
    save under one name at the same time get a file each. What killed processes left behind is
    removed.

    Raises:
        OSError: the file cannot be written (see `write_failure`).
    """
    fault = name_fault(name_of(place))
    if fault:
        raise OSError(errno.ENAMETOOLONG, fault)
    folder = name_of(place).parent
    sweep(folder)
    temporary, file, lock = _open_part(folder)
    try:
        whole = WholeFile(file)
        with file:
            yield whole
        if isinstance(place, Path):
            os.replace(temporary, place)
            whole.path = place
        else:
            whole.path = _claim(temporary, place)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def claim_folder(place: FreeName | NewName) -> Path:
    """Make the first folder of these names that is free, in one step of the file system.

    Raises:
        OSError: the folder cannot be made.
    """
    for path in place.paths():
        with suppress(FileExistsError):
            path.mkdir(parents=True)
            return path
    raise AssertionError("the numbers have no end")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path` that gets its name when the block ends well.

    After a failure nothing is left behind, and what killed processes left is removed. Where the
    folder is there by then, another process was faster: its own stays.

    Raises:
        OSError: the folder cannot be made or named.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_folders(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_PART_FOLDER) as temporary:
        made = Path(temporary) / path.name
        with only_one(Path(temporary)):
            made.mkdir()
            yield made
        try:
            os.rename(made, path)
        except OSError:
            if not path.is_dir():
                raise


def _sweep_folders(folder: Path) -> None:
    """Remove the temporary folders of processes that were killed; those being written stay."""
    for old in folder.glob(f"{_PART_FOLDER}*"):
        with suppress(OSError, InputError):
            if time.time() - old.stat().st_mtime > _SETTLED:
                with only_one(old):
                    shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove temporary files of processes that have ended; those being written stay.

    A writer keeps its file locked, and the lock goes with the process. Windows has no such lock,
    but refuses to delete a file that a process has open; there, and where locks are unknown, a
    file that changed within the last minute stays too.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _PART.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_orphan(entry.path)


def _remove_orphan(path: str) -> None:
    if fcntl is None:
        if time.time() - os.stat(path).st_mtime > _SETTLED:
            os.unlink(path)
        return
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(handle)


def _open_part(folder: Path) -> tuple[Path, BinaryIO, int | None]:
    """A new temporary file, and a handle that keeps it locked when the file is closed."""
    while True:
        temporary = folder / f".{uuid.uuid4().hex}.part"
        file = temporary.open("x+b")
        if fcntl is None:
            return temporary, file, None
        lock = os.dup(file.fileno())
        with suppress(OSError):  # a file system without locks: nobody can sweep there either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, file, lock
        os.close(lock)  # swept between its making and its lock
        file.close()


def _claim(temporary: Path, place: FreeName | NewName) -> Path:
    """Give a file the first free name without ever replacing another's."""
    for path in place.paths():
        if path.exists():
            continue
        with suppress(FileExistsError):
            _take_name(temporary, path)
            return path
    raise AssertionError("the numbers have no end")


def _take_name(temporary: Path, path: Path) -> None:
    """Name a file, or raise FileExistsError."""
    if fcntl is None:
        os.rename(temporary, path)  # Windows never replaces with it
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # file systems without links: exFAT, some network drives
        path.open("xb").close()
        try:
            os.replace(temporary, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def write_failure(place: Place, error: Exception) -> str:
    """A sentence that says why a file was not written and what to do.

    Args:
        place: the file.
        error: an OSError, or a library's own that may carry an `errno`.
    """
    path = name_of(place)
    number, why = getattr(error, "errno", None), getattr(error, "strerror", None) or error
    if number in DISK_FULL:
        cause = "the disk is full. Free some space or save elsewhere"
    elif fault := name_fault(path):
        cause = f"its path {fault}. Choose another name"
    elif not path.parent.is_dir():
        cause = f"there is no folder {str(path.parent)!r}. Make it or save elsewhere"
    elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
        cause = f"writing there is not allowed ({why}). Save elsewhere"
    else:
        cause = str(error)
    return f"{short_name(path)} was not saved: {cause}. Nothing was left behind."
