"""All arithmetic between seconds, samples and latent frames (spec: 44.1 kHz, 4096 per frame).

T latent frames, N audio samples, B batch. Seconds are Python floats and are never rounded to
whole seconds; samples are `int(seconds * 44100)`, i.e. cut, not rounded.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SAMPLE_RATE = 44100
HOP = 4096  # samples per latent frame
LATENT_CHANNELS = 256
HEADROOM_SECONDS = 6.0  # silence after the piece that the models were trained with
MAX_HEADROOM = 60.0
ALIGN = 2  # latents per alignment step, for every variant


def samples_of(seconds: float) -> int:
    """Audio samples of a duration: `int(seconds * 44100)`."""
    return int(seconds * SAMPLE_RATE)


def frames_covering(samples: int) -> int:
    """Latent frames that cover `samples` audio samples: ceil(samples / 4096)."""
    return -(-samples // HOP)


def effective_frames(seconds: float) -> int:
    """Frames that hold the piece itself, without headroom (the length schedules use)."""
    return frames_covering(samples_of(seconds))


def valid_frames(seconds: float, total: int, headroom: float = HEADROOM_SECONDS) -> int:
    """Frames of an item that take part in attention: the piece and its headroom, at most `total`.

    Args:
        seconds: duration of the piece.
        total: frames of the latent.
        headroom: seconds after the piece.

    Source: arXiv 2605.17991, padding of variable-length batches.
    """
    return min(effective_frames(seconds) + int(headroom * SAMPLE_RATE / HOP), total)


def target_frames(seconds: float, sample_size: int, headroom: float = HEADROOM_SECONDS) -> int:
    """Latent length T for a piece: headroom added, aligned to 2 frames, capped at sample_size.

    Args:
        seconds: duration of the longest item.
        sample_size: the variant's maximum, in samples.
        headroom: seconds after the piece.
    """
    frames = frames_covering(int((seconds + headroom) * SAMPLE_RATE))
    frames += -frames % ALIGN
    return min(frames, sample_size // HOP)


def seconds_of_frames(frames: int) -> float:
    """Exact duration of whole frames, used where a latent carries no seconds."""
    return frames * HOP / SAMPLE_RATE


def seconds_of_samples(samples: int) -> float:
    """The smallest float duration d >= samples / 44100 for which `samples_of(d)` is `samples`."""
    seconds = samples / SAMPLE_RATE
    return seconds if samples_of(seconds) >= samples else math.nextafter(seconds, math.inf)


def padding_mask(valid: Sequence[int], frames: int) -> Tensor:
    """Bool [B, T], True where an item's frame takes part in attention."""
    return torch.arange(frames)[None] < torch.tensor(list(valid))[:, None]
