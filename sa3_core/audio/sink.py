"""Where FFmpeg writes to: an open file of ours that remembers why a write failed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import av
from av.container import OutputContainer
from av.error import FFmpegError


class _Sink:
    """A file for FFmpeg that keeps why a write failed: PyAV says only that a callback did."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def output_container(file: BinaryIO, name: str) -> Iterator[OutputContainer]:
    """FFmpeg's writer into an open file.

    Raises:
        OSError: the file could not be written, with the cause that the system gave.
    """
    sink = _Sink(file)
    try:
        with av.open(sink, "w", format=name) as container:
            yield container
    except (FFmpegError, OSError):
        if sink.error is not None:
            raise sink.error from None
        raise
    if sink.error is not None:  # FFmpeg forgives failures of some trailers
        raise sink.error
