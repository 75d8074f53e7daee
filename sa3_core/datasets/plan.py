"""What encoding a folder would come to, from the files' headers alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import av
from av.error import FFmpegError

from ..checks import check_whole
from ..geometry import HOP, LATENT_CHANNELS, SAMPLE_RATE
from .folder import Recording


@dataclass(frozen=True)
class EncodingPlan:
    """What would be encoded.

    Attributes:
        clips: pieces, long recordings cut.
        seconds: of sound.
        size: bytes of latents, those of the silence included.
        unusable: relative paths without caption, or whose header cannot be read.
    """

    clips: int
    seconds: float
    size: int
    unusable: tuple[str, ...]


def plan_encoding(
    recordings: Sequence[Recording], sample_size: int, pad: bool, half: bool = False
) -> EncodingPlan:
    """Count clips, seconds and bytes; silent and repeated recordings are found only by encoding.

    Args:
        recordings: from `list_recordings`.
        sample_size: most samples of a clip.
        pad: clips are stored at the full length.
        half: in float16.

    Raises:
        InputError: a sample_size below one frame.
    """
    frames = check_whole("sample_size", sample_size, HOP) // HOP
    clips, seconds, stored, unusable = 0, 0.0, frames, []
    for recording in recordings:
        length = header_seconds(recording) if recording.caption else 0.0
        if not length:
            unusable.append(recording.relative)
            continue
        total = math.ceil(length * SAMPLE_RATE / HOP)
        pieces = math.ceil(total / frames)
        clips, seconds = clips + pieces, seconds + length
        stored += pieces * frames if pad else total
    return EncodingPlan(clips, seconds, stored * LATENT_CHANNELS * (2 if half else 4), (*unusable,))


def header_seconds(recording: Recording) -> float:
    """Seconds of a recording as its header says; 0 where it says nothing or is none."""
    try:
        with av.open(str(recording.path)) as container:
            stream = container.streams.audio[0]
            if stream.duration and stream.time_base:
                return float(stream.duration * stream.time_base)
            return (container.duration or 0) / 1e6
    except (FFmpegError, OSError, IndexError):
        return 0.0
