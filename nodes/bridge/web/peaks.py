"""What the region editor draws: waveform peaks, zero crossings and a spectrogram of a file."""

import asyncio
import base64
import json
import math
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
from aiohttp import web

from ....sa3_core.audio.file import read_audio
from ....sa3_core.errors import AudioError
from ....sa3_core.geometry import SAMPLE_RATE, seconds_of_samples

PEAKS_ROUTE, SPECTROGRAM_ROUTE = "/sa3/peaks", "/sa3/spectrogram"
FOLDERS = ("input", "output", "temp")

_FINE = 128  # samples of the finest bin; 2.9 ms
_MOST_BINS = 1 << 18  # in the finest level; 760 s, longer files get longer bins
_LEVELS = 3
_STEP = 8  # a level's bins are so many times longer than the next finer one's
_NO_CROSSING = 255
_BINS_AT_ONCE = 8192  # fresh memory costs more than the arithmetic

_COLUMNS, _ROWS = 2048, 128  # of a spectrogram
_FFT = 2048
_LOWEST, _HIGHEST = 40.0, 18_000.0  # Hz
_FLOOR_DB = -90.0
_WINDOWS_PER_COLUMN = 4  # at most, so that a long file's short sounds are not missed
_FFTS_AT_ONCE = 512

_KEPT = 16  # answers, up to 1 MB each

Key = tuple[str, str, int, int]


class AnswerCache:
    """The last answers, by what was asked about which state of which file."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._answers: OrderedDict[Key, bytes] = OrderedDict()
        self._working = asyncio.Lock()  # one file at a time: decoding takes a core and memory

    async def get(self, route: str, path: Path) -> bytes:
        """The answer about a file, computed in a thread unless it is known.

        Raises:
            AudioError: the file cannot be read.
        """
        state = path.stat()
        key = (route, str(path), state.st_mtime_ns, state.st_size)
        if key not in self._answers:
            async with self._working:
                if key not in self._answers:  # another request may have brought it meanwhile
                    self._answers[key] = await asyncio.to_thread(compute, route, path)
        self._answers.move_to_end(key)
        answer = self._answers[key]
        while len(self._answers) > self._kept:
            self._answers.popitem(last=False)
        return answer


_cache = AnswerCache()


async def answer_sound(request: web.Request) -> web.Response:
    """Query: filename, subfolder, type (input, output or temp), as for the host's /view."""
    query = request.rel_url.query
    route = PEAKS_ROUTE if request.path.endswith(PEAKS_ROUTE) else SPECTROGRAM_ROUTE
    path = find_file(
        query.get("filename", ""), query.get("subfolder", ""), query.get("type", "input")
    )
    try:
        state = path.stat()
        tag = f"{state.st_mtime_ns:x}-{state.st_size:x}"
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
        if any(known.value == tag for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        body = await _cache.get(route, path)
    except FileNotFoundError:
        raise web.HTTPNotFound from None
    except AudioError as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    return web.Response(body=body, content_type="application/json", headers=headers)


def find_file(filename: str, subfolder: str, folder: str) -> Path:
    """The file that a query names, once it is sure to lie in that folder.

    Raises:
        web.HTTPBadRequest: no name, or an unknown folder.
        web.HTTPForbidden: the path leads out of the folder, through a link too.
        web.HTTPNotFound: there is no such file.
    """
    if not filename or folder not in FOLDERS:
        raise web.HTTPBadRequest(text=f"Give filename, and type as one of {', '.join(FOLDERS)}.")
    base = os.path.realpath(folder_paths.get_directory_by_type(folder) or "")
    try:
        path = os.path.realpath(os.path.join(base, subfolder, filename))
        inside = os.path.commonpath((base, path)) == base
    except ValueError:  # another drive, or a zero byte
        inside = False
    if not inside:
        raise web.HTTPForbidden(text=f"{filename} is not in the {folder} folder.")
    if not os.path.isfile(path):
        raise web.HTTPNotFound(text=f"There is no {filename} in the {folder} folder.")
    return Path(path)


def compute(route: str, path: Path) -> bytes:
    """Decode a file and answer a route's question about it as JSON. Blocks.

    Raises:
        AudioError: the file cannot be read.
    """
    make: Callable[[np.ndarray, int], dict[str, Any]]
    make = peaks if route == PEAKS_ROUTE else spectrogram
    waveform, rate = read_audio(path)
    return json.dumps(make(waveform.numpy(), rate)).encode()


def peaks(audio: np.ndarray, rate: int) -> dict[str, Any]:
    """Lowest and highest samples per bin at several zoom levels, and zero crossings.

    Args:
        audio: [A, N] float32.
        rate: Hz.

    Returns:
        `seconds` as the editing nodes count them, `rate`, `levels` from fine to coarse, each
        {"bin": samples, "pairs": int8 min, max, ...}, and `crossings`: per bin of the finest
        level the place of the first zero crossing of the mono mix, in samples from the bin's
        start, 255 = none. Arrays are base64.
    """
    samples = audio.shape[1]
    size = _FINE
    while samples > size * _MOST_BINS:
        size *= 2
    low, high = _extremes(audio, size)
    levels = []
    for level in range(_LEVELS):
        pairs = np.stack([np.floor(low * 127), np.ceil(high * 127)], axis=1)
        packed = _base64(pairs.clip(-127, 127).astype(np.int8))
        levels.append({"bin": size * _STEP**level, "pairs": packed})
        low, high = _coarser(low, np.minimum), _coarser(high, np.maximum)
    return {
        "seconds": seconds_of_samples(math.ceil(samples * SAMPLE_RATE / rate)),
        "rate": rate,
        "levels": levels,
        "crossings": _base64(_crossings(audio, size)),
    }


def _extremes(audio: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest sample of any channel per bin of `size` samples."""
    low, high = np.inf, -np.inf
    for channel in audio:
        whole = len(channel) // size * size
        bins, rest = channel[:whole].reshape(-1, size), channel[whole:]
        lowest, highest = bins.min(axis=1), bins.max(axis=1)
        if rest.size:
            lowest = np.append(lowest, rest.min())
            highest = np.append(highest, rest.max())
        low, high = np.minimum(low, lowest), np.maximum(high, highest)
    return np.nan_to_num(low), np.nan_to_num(high)


def _coarser(values: np.ndarray, reduce: np.ufunc) -> np.ndarray:
    return reduce.reduceat(values, np.arange(0, len(values), _STEP))


def _crossings(audio: np.ndarray, size: int) -> np.ndarray:
    """First zero crossing of the mono mix per bin, as peaks() describes."""
    block = size * _BINS_AT_ONCE
    found = [_first_changes(audio, at, block, size) for at in range(0, audio.shape[1], block)]
    return np.concatenate(found)


def _first_changes(audio: np.ndarray, at: int, block: int, size: int) -> np.ndarray:
    """The crossings of one block of samples."""
    before = max(at - 1, 0)  # its last sample belongs to the first change
    mix: Any = sum(audio[:, before : at + block])  # by rows: numpy is slow over two of them
    below = mix < 0
    if before == at:
        below = np.append(below[:1], below)
    count = len(below) - 1
    changes = np.zeros(-(-count // size) * size, dtype=bool)
    np.not_equal(below[1:], below[:-1], out=changes[:count])
    bins = changes.reshape(-1, size)
    first = bins.argmax(axis=1).clip(max=_NO_CROSSING - 1)
    return np.where(bins.any(axis=1), first, _NO_CROSSING).astype(np.uint8)


def spectrogram(audio: np.ndarray, rate: int) -> dict[str, Any]:
    """Loudness over time and frequency of the mono mix.

    Args:
        audio: [A, N] float32.
        rate: Hz.

    Returns:
        `columns`, `rows` and `pixels`: base64 uint8, row by row with the highest frequency first,
        0 = -90 dB of a full-scale sine or less, 255 = 0 dB. Rows are spaced by pitch.
    """
    mono = np.nan_to_num(sum(audio) / len(audio))
    columns = max(1, min(_COLUMNS, len(mono) * 8 // _FFT))
    hop = len(mono) / columns
    windows = min(_WINDOWS_PER_COLUMN, math.ceil(hop / _FFT))
    centres = (np.arange(columns * windows) + 0.5) * hop / windows
    starts = np.round(centres).astype(np.int64)  # the padding moves them back by half a window
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(mono, _FFT // 2), _FFT)
    top = min(_HIGHEST, rate / 2)
    edges = np.round(np.geomspace(_LOWEST, top, _ROWS + 1) * _FFT / rate).astype(np.int64)
    shape = np.hanning(_FFT).astype(np.float32)
    rows = [
        _loudest(frames[starts[i : i + _FFTS_AT_ONCE]] * shape, edges)
        for i in range(0, len(starts), _FFTS_AT_ONCE)
    ]
    level = np.concatenate(rows).reshape(columns, windows, _ROWS).max(axis=1)
    decibel = 20 * np.log10(np.maximum(level / (shape.sum() / 2), 1e-9))
    pixels = (decibel / -_FLOOR_DB + 1).clip(0, 1) * 255
    picture = pixels.round().astype(np.uint8).T[::-1]
    return {"columns": columns, "rows": _ROWS, "pixels": _base64(picture)}


def _loudest(frames: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Largest magnitude between each two edges (FFT bins), [frames, rows]."""
    return np.maximum.reduceat(np.abs(np.fft.rfft(frames)), edges, axis=1)[:, : len(edges) - 1]


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
