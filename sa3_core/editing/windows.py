"""Continuing a piece past the model's maximum, window by window.

Each window shows the model the last stretch of what there is (context) and lets it make the next
one. All times are seconds of the source: it lies at 0-source, what is added after its end or,
mirrored, before 0.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import MAX_AUDIO_BYTES, check_positive, check_size
from ..errors import InputError
from .continuation import ContinuationPlan, plan_continuation
from .paste import Source, paste_back
from .paste_plan import CROSSFADE_SECONDS
from .regions import Region

WINDOW_SEED = 1_000_003  # between windows, so that no item's window repeats another's noise
_FLOAT_SLOP = 1e-9  # seconds

MakeWindow = Callable[[ContinuationPlan, int], Tensor]  # plan, number -> [1, 2, n] at 44.1 kHz


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
class Extension:
    """How far a source is continued and how.

    Attributes:
        add: seconds.
        before: in front of the start instead of after the end.
        context: seconds of what there is that each window sees.
        overlap: seconds over which windows are crossfaded.
        longest: seconds of a window, 0 = the model's maximum.
        crossfade: seconds over which the seam with the source is smoothed.
        rule: a name of MASK_RULES.
    """

    add: float
    before: bool = False
    context: float = 30.0
    overlap: float = 1.0
    longest: float = 0.0
    crossfade: float = CROSSFADE_SECONDS
    rule: str = "cover"

    def windows(self, source: float, limit: float, sample_rate: int) -> list[Window]:
        """The windows of a source.

        Args:
            source: its duration.
            limit: the model's maximum duration.
            sample_rate: of the source; pieces are cut at whole samples, which takes one of room.

        Raises:
            InputError: see `plan_windows`; also more audio than MAX_AUDIO_BYTES.
        """
        size = 8 * (source + check_positive("add_seconds", self.add)) * sample_rate
        check_size(f"A piece of {source + self.add:g} s", size, MAX_AUDIO_BYTES)
        longest = min(self.longest or limit, limit) - 1 / sample_rate
        return plan_windows(source, self.add, longest, self.context, self.overlap, self.before)

    def describe(self, windows: Sequence[Window]) -> str:
        """What is added, in a sentence."""
        longest = max(window.span.end - window.span.start for window in windows)
        where = "before the start" if self.before else "after the end"
        count = f"{len(windows)} window{'' if len(windows) == 1 else 's'}"
        return f"{self.add:g} s added {where} in {count} of at most {longest:.2f} s"


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


def extend_source(
    waveform: Tensor,
    sample_rate: int,
    windows: Sequence[Window],
    extension: Extension,
    make: MakeWindow,
) -> Tensor:
    """Continue a source window by window.

    Args:
        waveform: [1, A, n] at its own rate.
        sample_rate: in Hz.
        windows: of `extension.windows`.
        extension: how.
        make: encodes, samples and decodes one window.

    Returns:
        [1, A, N], the source's own samples untouched.

    Raises:
        RegionError: the source does not fill a latent frame.
    """
    audio, samples = waveform, waveform.shape[-1]
    for index, window in enumerate(windows):
        piece = cut_piece(audio, samples, sample_rate, window)
        plan = plan_continuation(piece.context, sample_rate, piece.region)
        made = make(plan, index)
        # A fade a sample shorter than the overlap surely ends inside what there was before.
        shared = min(extension.overlap, _overlap(window, windows[index - 1]) - 2 / sample_rate)
        crossfade = max(0.0, shared) if index else extension.crossfade
        source = Source(piece.context, sample_rate, [[plan.region]])
        audio = piece.joined(paste_back(made, source, crossfade)[0])
    return audio


def _overlap(window: Window, last: Window) -> float:
    """Seconds that two windows share."""
    made, before = window.make, last.make
    return min(made.end, before.end) - max(made.start, before.start)


def _mirrored(window: Window, source: float) -> Window:
    """The window for adding before the start: time runs backwards from the source's end."""
    span, keep, make = (
        Region(source - region.end, source - region.start)
        for region in (window.span, window.keep, window.make)
    )
    return Window(span, keep, make)
