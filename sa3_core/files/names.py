"""Names that no file can have, and what the system says of files, in a user's words."""

import errno
import os
from pathlib import Path

DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_NAME_BYTES, _PATH_BYTES = 255, 4095  # the most that usual file systems take
_SHOWN = 60  # characters of a name that a message repeats


def name_fault(path: Path) -> str | None:
    """Why no file can lie at a path, as the rest of a sentence about it; None = one can."""
    if "\0" in str(path):
        return "holds a NUL character, which no name may"
    try:
        sizes = [len(os.fsencode(part)) for part in path.parts]
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate)"
    if sizes and max(sizes) > _NAME_BYTES:
        return f"has a name of {max(sizes)} bytes in it; names have at most {_NAME_BYTES}"
    size = len(os.fsencode(path))
    return f"has {size} bytes; paths have at most {_PATH_BYTES}" if size > _PATH_BYTES else None


def is_file(path: Path) -> bool:
    """Whether a file is there; False too for what cannot be a path."""
    return name_fault(path) is None and path.is_file()


def short_name(path: Path) -> str:
    """A file's name for messages."""
    name = path.name
    return name if len(name) <= _SHOWN else f"{name[: _SHOWN - 10]}...{name[-7:]}"


def system_failure(error: OSError) -> str:
    """A sentence for what the system says, where no file's own reader or writer has put it."""
    place = f" ({error.filename})" if error.filename else ""
    if error.errno in DISK_FULL:
        return f"The disk is full. Free some space, or write elsewhere{place}."
    if error.errno == errno.ENAMETOOLONG:
        return f"A name is too long; names have at most {_NAME_BYTES} bytes. Shorten it{place}."
    return str(error)
