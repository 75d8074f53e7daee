"""Continuing a piece past the model's maximum, window by window.

Each window shows the model the last stretch of what there is (context) and lets it make the next
one. All times are seconds of the source: it lies at 0-source, what is added after its end or,
mirrored, before 0.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_positive
from ..errors import InputError
from .regions import Region

_FLOAT_SLOP = 1e-9  # seconds


@dataclass(frozen=True)
class Window:
    """One run of the model.

    Attributes:
        span: what the model sees: given and made together.
        keep: the given part.
        make: the made part. From the second window on it starts `overlap` seconds inside what
            the window before made, so that a crossfade has something to fade from.
    """

    span: Region
    keep: Region
    make: Region


@dataclass(frozen=True)
class Piece:
    """One window's share of the audio, ready to be continued like any source.

    Attributes:
        context: [..., n], what the model is shown; with an overlap also what it makes again.
        region: what is made, in seconds of the context.
        seconds: duration of the piece the model makes, context and all.
        head, tail: the audio before and after the context.
    """

    context: Tensor
    region: Region
    seconds: float
    head: Tensor
    tail: Tensor

    def joined(self, result: Tensor) -> Tensor:
        """All the audio, with the pasted result [..., n'] of this window in its place."""
        return torch.cat([self.head, result, self.tail], dim=-1)


def plan_windows(
    source: float,
    add: float,
    longest: float,
    context: float,
    overlap: float = 0.0,
    before: bool = False,
) -> list[Window]:
    """Divide what is to be added into windows that the model can make.

    The windows share what is added evenly, so none is a mere rest.

    Args:
        source: duration of the source.
        add: seconds to add.
        longest: the model's maximum duration.
        context: seconds of given audio that each window shows the model; the first window shows
            at most the source.
        overlap: seconds of the window before that a window makes again, less than `context`; at
            most half of what a window adds is used.
        before: add before the start instead of after the end.

    Returns:
        The windows in the order they must be made. Together their `make` spans cover exactly
        what is added; each `span` is at most `longest`.

    Raises:
        InputError: a value that is no positive number, an overlap that reaches the context, or a
            context that leaves nothing to make.
    """
    for name, value in (("source", source), ("add_seconds", add), ("window_seconds", longest)):
        check_positive(name, value)
    check_positive("context_seconds", context)
    if not 0 <= overlap < context:
        raise InputError(
            f"is {overlap!r} s; it must be 0 or more and below {context:g} s.", "overlap_seconds"
        )
    room = longest - context
    if room <= 0:
        raise InputError(
            f"A context of {context:g} s leaves nothing of the model's {longest:g} s to be made. "
            "Give a shorter context."
        )
    count = max(1, math.ceil(add / room - _FLOAT_SLOP))
    overlap = min(overlap, add / count / 2)
    windows = []
    for index in range(count):
        start = source + add * (index / count)
        end = source + add * ((index + 1) / count)
        make_start = start - overlap if index else start
        given = max(0.0, start - context)
        windows.append(
            Window(Region(given, end), Region(given, make_start), Region(make_start, end))
        )
    return [_mirrored(window, source) for window in windows] if before else windows


def cut_piece(audio: Tensor, source_samples: int, sample_rate: int, window: Window) -> Piece:
    """Take what a window needs out of the audio that there is so far.

    Args:
        audio: [..., N], the source with what earlier windows added.
        source_samples: length of the source at the start.
        sample_rate: of both.
        window: from `plan_windows`, in order.
    """
    if window.make.start >= 0:
        first = int(window.keep.start * sample_rate)
        last, origin = audio.shape[-1], first / sample_rate
    else:
        lead = audio.shape[-1] - source_samples
        first, origin = 0, -lead / sample_rate
        last = min(math.ceil((window.keep.end - origin) * sample_rate), audio.shape[-1])
    region = Region(window.make.start - origin, window.make.end - origin)
    context = audio[..., first:last]
    seconds = max(context.shape[-1] / sample_rate, region.end) - min(0.0, region.start)
    return Piece(context, region, seconds, audio[..., :first], audio[..., last:])


def _mirrored(window: Window, source: float) -> Window:
    """The window for adding before the start: time runs backwards from the source's end."""
    span, keep, make = (
        Region(source - region.end, source - region.start)
        for region in (window.span, window.keep, window.make)
    )
    return Window(span, keep, make)
