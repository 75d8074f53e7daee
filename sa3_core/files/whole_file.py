"""Files that appear under their name only when they are complete."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` and give it that name when the block ends well.

    An existing file is replaced; after a failure it is untouched and nothing is left behind.

    Raises:
        OSError: the file cannot be written (see `write_failure`).
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with temporary.open("w+b") as file:
            yield file
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_failure(path: Path, error: Exception) -> str:
    """A sentence that says why `path` was not written and what to do.

    Args:
        path: the file.
        error: an OSError, or a library's own that may carry an `errno`.
    """
    number, why = getattr(error, "errno", None), getattr(error, "strerror", None) or error
    if number in _DISK_FULL:
        cause = "the disk is full. Free some space or save elsewhere"
    elif not path.parent.is_dir():
        cause = f"there is no folder {str(path.parent)!r}. Make it or save elsewhere"
    elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
        cause = f"writing there is not allowed ({why}). Save elsewhere"
    else:
        cause = str(error)
    return f"{path.name} was not saved: {cause}. Nothing was left behind."
