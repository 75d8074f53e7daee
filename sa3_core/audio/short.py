"""Whether an audio file is as long as its own header says."""

import logging
from pathlib import Path
from typing import BinaryIO, Literal

from ..errors import AudioError

_log = logging.getLogger(__name__)

_MOST_PAGE = 2**17  # bytes, of an Ogg file
_MOST_CHUNKS = 1000  # in front of a file's sound


def check_whole(path: Path) -> None:
    """Refuse a file that is shorter than its own header says; FFmpeg reads it as a shorter piece.

    Raises:
        AudioError: naming both sizes.
        OSError: it cannot be opened.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        end = _stated_end(file)
        if _lacks_last_page(file, size):  # recorders of streams leave it out, too
            _log.warning("%s has no last page; is it cut short?", path.name)
    if end is not None and end > size:
        raise AudioError(
            f"{path.name} cannot be read: it is cut short, {size} of {end} bytes are there. Copy "
            "or download it again."
        )


def _stated_end(file: BinaryIO) -> int | None:
    """Where the sound of a WAV, W64, CAF or AVI file ends by its header; None = not told."""
    start = file.read(24)
    if start[:4] == b"RIFF" and start[8:12] == b"WAVE":
        return _chunk_end(file, 12, b"data", "little", 4)
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        length = int.from_bytes(start[4:8], "little")
        return 8 + length if 0 < length < 2**32 - 1 else None
    if start[:4] == b"caff":
        return _chunk_end(file, 8, b"data", "big", 8)
    if start[:4] == b"riff":  # Sony Wave64: the whole file's size
        return int.from_bytes(start[16:24], "little")
    return None


def _lacks_last_page(file: BinaryIO, size: int) -> bool:
    """Whether an Ogg file ends without the page that is marked as its last."""
    file.seek(0)
    if file.read(4) != b"OggS":
        return False
    file.seek(max(0, size - _MOST_PAGE))
    tail = file.read()
    last = tail.rfind(b"OggS")
    return last < 0 or len(tail) <= last + 5 or not tail[last + 5] & 4


def _chunk_end(
    file: BinaryIO, start: int, wanted: bytes, order: Literal["little", "big"], width: int
) -> int | None:
    """End of the chunk `wanted`; None where there is none or its size was left open."""
    place = start
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        head = file.read(4 + width)
        if len(head) < 4 + width:
            return None
        length = int.from_bytes(head[4:], order)
        if head[:4] == wanted:
            # 0 or nearly all ones: written to a pipe, which could not tell the length yet
            left_open = length == 0 or length >= 2 ** (8 * width - 1) - 2**12
            return None if left_open else place + 4 + width + length
        place += 4 + width + length + (length % 2 if order == "little" else 0)
    return None
