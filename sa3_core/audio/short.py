"""Whether an audio file is as long as its own header says.

WAV, W64, AIFF, CAF, AVI, MP4 and M4A, Matroska and WebM, MP3 with a Xing, Info or VBRI header and
Ogg state it. Bare MP3, AAC and transport streams do not: a cut cannot be told from their end.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

from ..errors import AudioError

_log = logging.getLogger(__name__)

_MOST_PAGE = 2**17  # bytes, of an Ogg file
_MOST_CHUNKS = 1000  # in front of a file's sound
_MOST_BOXES = 100_000  # of an MP4 in fragments
_MP3_SEARCH = 4096  # bytes behind an ID3 tag in which the first frame begins
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


def check_whole(path: Path) -> None:
    """Refuse a file that is shorter than its own header says; FFmpeg reads it as a shorter piece.

    Raises:
        AudioError: naming both sizes.
        OSError: it cannot be opened.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        end = _stated_end(file, size)
    if end is not None and end > size:
        raise AudioError(
            f"{path.name} cannot be read: it is cut short, {size} of {end} bytes are there. Copy "
            "or download it again."
        )


def _stated_end(file: BinaryIO, size: int) -> int | None:
    """Where a file's sound ends by its header; None = not told."""
    start = file.read(24)
    for is_this, read in _KINDS:
        if is_this(start):
            return read(file, size)
    return None


def _chunk_end(
    start: int,
    wanted: bytes,
    order: Literal["little", "big"],
    width: int,
    file: BinaryIO,
    size: int,
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


def _riff_end(file: BinaryIO, size: int) -> int | None:
    """Of an AVI."""
    file.seek(4)
    length = int.from_bytes(file.read(4), "little")
    return 8 + length if 0 < length < 2**32 - 1 else None


def _form_end(file: BinaryIO, size: int) -> int | None:
    """Of an AIFF."""
    file.seek(4)
    length = int.from_bytes(file.read(4), "big")
    return 8 + length if 0 < length < 2**31 - 2**12 else None


def _wave64_end(file: BinaryIO, size: int) -> int | None:
    file.seek(16)
    return int.from_bytes(file.read(8), "little")


def _box_end(file: BinaryIO, size: int) -> int | None:
    """Of an MP4, M4A or MOV: a row of boxes, each with its length; 0 = up to the end."""
    place = 0
    for _ in range(_MOST_BOXES):
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return place + 8 if head else place
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        if length < 8:
            return None
        place += length
        if place >= size:
            return place
    return None


def _matroska_end(file: BinaryIO, size: int) -> int | None:
    """Of a Matroska or WebM file: a header element, then one segment with its length."""
    place = 0
    for wanted in (b"\x1aE\xdf\xa3", b"\x18S\x80g"):
        file.seek(place)
        head = file.read(12)
        width = 9 - head[4].bit_length() if len(head) > 4 and head[4] else 0
        if head[:4] != wanted or not width or len(head) < 4 + width:
            return None
        open_end = 2 ** (7 * width) - 1  # all ones: a stream, whose length was not known
        length = int.from_bytes(head[4 : 4 + width], "big") & open_end
        if length == open_end:
            return None
        place += 4 + width + length
    return place


def _ogg_end(file: BinaryIO, size: int) -> int | None:
    """End of the last page that begins; warns where it is not marked as the last one."""
    file.seek(max(0, size - _MOST_PAGE))
    tail = file.read()
    last = tail.rfind(b"OggS\0")
    page = tail[last:] if last >= 0 else b""
    if len(page) < 27:
        return size + 27 - len(page)
    end = size - len(page) + 27 + page[26] + sum(page[27 : 27 + page[26]])
    if end <= size and not page[5] & 4:  # recorders of streams leave the mark out, too
        _log.warning("%s has no last page; is it cut short?", Path(str(file.name)).name)
    return end


def _mp3_end(file: BinaryIO, size: int) -> int | None:
    """By the Xing, Info or VBRI header in the first frame, where an encoder left one."""
    file.seek(0)
    head = file.read(10)
    start = 0
    if head[:3] == b"ID3":
        length = 0
        for byte in head[6:10]:
            length = length << 7 | byte & 127
        start = 10 + length
    file.seek(start)
    data = file.read(_MP3_SEARCH)
    first = next((i for i in range(len(data) - 4) if _is_mp3_frame(data[i : i + 4])), None)
    if first is None:
        return None
    version_1, mono = data[first + 1] & 8, data[first + 3] >> 6 == 3
    tag = first + 4 + ((17 if mono else 32) if version_1 else (9 if mono else 17))
    if data[tag : tag + 4] in (b"Xing", b"Info"):
        flags = int.from_bytes(data[tag + 4 : tag + 8], "big")
        place = tag + 8 + (4 if flags & 1 else 0)
        told = bool(flags & 2)
    else:
        place, told = first + 4 + 32 + 10, data[first + 36 : first + 40] == b"VBRI"
    length = int.from_bytes(data[place : place + 4], "big")
    return start + first + length if told and length else None


def _is_mp3_frame(head: bytes) -> bool:
    """Whether four bytes begin a frame of layer 3."""
    sync = head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return (
        sync
        and head[1] >> 3 & 3 != 1  # version
        and head[1] >> 1 & 3 == 1  # layer
        and head[2] >> 4 not in (0, 15)  # bit rate
        and head[2] >> 2 & 3 != 3  # sample rate
    )


_Read = Callable[[BinaryIO, int], int | None]
_KINDS: tuple[tuple[Callable[[bytes], bool], _Read], ...] = (
    (
        lambda head: head[:4] == b"RIFF" and head[8:12] == b"WAVE",
        partial(_chunk_end, 12, b"data", "little", 4),
    ),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ", _riff_end),
    (lambda head: head[:4] == b"FORM" and head[8:11] == b"AIF", _form_end),
    (lambda head: head[:4] == b"caff", partial(_chunk_end, 8, b"data", "big", 8)),
    (lambda head: head[:4] == b"riff", _wave64_end),
    (lambda head: head[:4] == b"OggS", _ogg_end),
    (lambda head: head[:4] == b"\x1aE\xdf\xa3", _matroska_end),
    (lambda head: head[4:8] in _BOXES, _box_end),
    (lambda head: head[:3] == b"ID3" or _is_mp3_frame(head[:4].ljust(4)), _mp3_end),
)
