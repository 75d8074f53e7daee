"""One process at a time in a folder: a lock that ends with its process, however that ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK_FILE = ".in-use"


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the block runs.

    The file stays behind; it is the system's lock on it that counts, and that goes with the
    process.

    Args:
        folder: there already.

    Raises:
        InputError: another process is in it.
        OSError: the file cannot be made.
    """
    handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT)
    try:
        if not _take(handle):
            raise InputError(
                f"{folder} is in use by another process. Wait until it ends, or choose another "
                "folder."
            )
        yield
    finally:
        os.close(handle)  # the file stays: whoever opened it meanwhile must find the same one


def _take(handle: int) -> bool:
    """Whether the lock is ours now."""
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    except BlockingIOError:
        return False
    except PermissionError:
        return False  # how Windows says it
    except OSError:
        return True  # a file system without locks
    return True
