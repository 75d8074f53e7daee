"""What the region editor draws: waveform peaks, zero crossings and a spectrogram of a file."""

import asyncio
import base64
import json
import math
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from aiohttp import web
from torch import Tensor

from ....sa3_core.audio.file import read_audio
from ....sa3_core.audio.pictures import outline, spectrogram, zero_crossings
from ....sa3_core.errors import AudioError
from ....sa3_core.geometry import SAMPLE_RATE, seconds_of_samples

PEAKS_ROUTE, SPECTROGRAM_ROUTE = "/sa3/peaks", "/sa3/spectrogram"
FOLDERS = ("input", "output", "temp")

_FINE = 128  # samples of the finest bin; 2.9 ms
_MOST_BINS = 1 << 18  # in the finest level; 760 s, longer files get longer bins
_LEVELS = 3
_STEP = 8  # a level's bins are so many times longer than the next finer one's

_COLUMNS, _ROWS = 2048, 128  # of a spectrogram
_SAMPLES_PER_COLUMN = 256  # at least
_LOWEST, _HIGHEST = 40.0, 18_000.0  # Hz
_FLOOR_DB = -90.0

_MOST_DECODED = 1e9  # bytes of samples: 47 min of stereo at 44.1 kHz
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
    make = peaks if route == PEAKS_ROUTE else sound_image
    return json.dumps(make(*read_audio(path, _MOST_DECODED))).encode()


def peaks(audio: Tensor, rate: int) -> dict[str, Any]:
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
    low, high = map(np.nan_to_num, outline(audio, np.append(np.arange(0, samples, size), samples)))
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
        "crossings": _base64(zero_crossings(audio, size)),
    }


def _coarser(values: np.ndarray, reduce: np.ufunc) -> np.ndarray:
    return reduce.reduceat(values, np.arange(0, len(values), _STEP))


def sound_image(audio: Tensor, rate: int) -> dict[str, Any]:
    """The spectrogram as the page draws it.

    Args:
        audio: [A, N] float32.
        rate: Hz.

    Returns:
        `columns`, `rows` and `pixels`: base64 uint8, row by row with the highest frequency first,
        0 = -90 dB of a full-scale sine or less, 255 = 0 dB. Rows are spaced by pitch.
    """
    columns = max(1, min(_COLUMNS, audio.shape[1] // _SAMPLES_PER_COLUMN))
    sound = audio if torch.isfinite(audio.sum()) else audio.nan_to_num()
    levels = spectrogram(sound, rate, columns, _ROWS, _LOWEST, _HIGHEST)
    pixels = ((1 - levels / _FLOOR_DB).clamp(0, 1) * 255).round().to(torch.uint8)
    return {"columns": columns, "rows": _ROWS, "pixels": _base64(pixels.numpy())}


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
