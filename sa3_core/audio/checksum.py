"""The checksum that a FLAC file holds of its own sound."""

import hashlib
from pathlib import Path

import numpy as np

_STREAM_INFO = 34  # bytes
_EXACT_BITS = 24  # that a float32 sample holds
_BLOCK = 1 << 20  # samples per channel


def differs_from_checksum(path: Path, audio: np.ndarray) -> bool:
    """Whether what was decoded is not what was encoded; False too where the file does not tell.

    Args:
        path: a FLAC file.
        audio: [A, N] float32, full scale at 1.

    Source: RFC 9639, section 8.2: MD5 of the interleaved samples, little-endian.
    """
    info = _stream_info(path)
    if info is None:
        return False
    packed, digest = int.from_bytes(info[10:18], "big"), info[18:]
    bits = (packed >> 36 & 31) + 1
    if bits > _EXACT_BITS or not any(digest):
        return False
    width, found = (bits + 7) // 8, hashlib.md5(usedforsecurity=False)
    for start in range(0, audio.shape[1], _BLOCK):
        block = audio[:, start : start + _BLOCK].T.astype(np.float64) * 2.0 ** (bits - 1)
        whole = np.ascontiguousarray(block.round().astype("<i4"))
        found.update(whole.view(np.uint8).reshape(-1, 4)[:, :width].tobytes())
    return found.digest() != digest


def _stream_info(path: Path) -> bytes | None:
    """The first metadata block, where the file begins with it."""
    with path.open("rb") as file:
        head = file.read(8 + _STREAM_INFO)
    whole = len(head) == 8 + _STREAM_INFO and head[:4] == b"fLaC" and head[4] & 127 == 0
    return head[8:] if whole else None
