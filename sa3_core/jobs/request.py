"""What the values of `sa3 generate` ask for: from its flags, or from a row of a manifest."""

import logging
from argparse import Namespace as Values
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..audio.file import read_source as read_stereo
from ..editing.edits import AudioToAudio, Continuation, Edit, Inpaint, Loop
from ..editing.regions import bar_seconds
from ..editing.windows import Extension
from ..pieces import GenerateRequest
from ..sampling.schedule import parse_shift_options
from ..sampling.settings import SampleSettings
from .rules import DEFAULT_NOISE_LEVEL, DEFAULT_SECONDS, START

log = logging.getLogger(__name__)


def read_source(path: Path) -> tuple[Tensor, int]:
    """An audio file as [1 or 2, N] with its sample rate; says where channels were mixed down."""
    audio, rate, note = read_stereo(path)
    if note:
        log.warning("%s: %s", path.name, note)
    return audio, rate


def request_of(args: Values) -> GenerateRequest:
    """The request; sources are read from their files.

    Args:
        args: values under the flags' names; prompt, negative, seconds and seed are lists.

    Raises:
        SA3Error: a value out of range, or a source that cannot be read.
    """
    edit = _edit(args)
    seconds: Sequence[float] = args.seconds or ()
    if args.bars is not None:
        seconds = (bar_seconds(args.bars, args.bpm, args.beats_per_bar),)
    if args.loop_audio:
        seconds = ()  # the loop's own
    elif edit is None and not seconds and not args.extend_audio:
        seconds = (DEFAULT_SECONDS,)
    return GenerateRequest(
        prompts=args.prompt,
        negatives=args.negative or (),
        seconds=seconds,
        settings=settings_of(args),
        seeds=args.seeds or args.seed or (0,),
        edit=edit,
        headroom=args.headroom,
        variation=(args.variation_seed, args.variation_strength),
    )


def settings_of(args: Values) -> SampleSettings:
    """How to sample.

    Raises:
        SA3Error: a value out of range.
    """
    level = args.denoise
    if level is None:
        level = DEFAULT_NOISE_LEVEL if args.init_audio else 1.0
    return SampleSettings(
        steps=args.steps,
        sampler=args.sampler,
        shift=args.shift,
        cfg=args.cfg,
        apg=args.apg,
        noise_level=level,
        noise_schedule=args.noise_schedule,
        cfg_interval=(args.cfg_start, args.cfg_end),
        norm_threshold=args.norm_threshold,
        rescale=args.rescale,
        keep_mode=args.keep_mode,
        shift_options=parse_shift_options(" ".join(args.shift_options or ())),
    )


def _edit(args: Values) -> Edit | None:
    common = {
        "rule": args.rule,
        "paste_back": args.keep_source_exactly,
        "crossfade": args.crossfade_ms / 1000,
    }
    if args.init_audio:
        return AudioToAudio(*read_source(args.init_audio))
    if args.inpaint_audio:
        return Inpaint(
            *read_source(args.inpaint_audio),
            regions=_regions(args),
            bpm=args.bpm,
            beats_per_bar=args.beats_per_bar,
            invert=args.invert,
            context_seconds=args.context_seconds or 0.0,
            **common,
        )
    if args.continue_audio:
        return Continuation(
            *read_source(args.continue_audio),
            add_seconds=args.add,
            before=args.where == START,
            context_seconds=args.context_seconds or 0.0,
            **common,
        )
    if args.loop_audio:
        seconds = args.seconds[0] if args.seconds else None
        if args.bars is not None:
            seconds = bar_seconds(args.bars, args.bpm, args.beats_per_bar)
        source = read_source(args.loop_audio)
        return Loop(*source, seconds=seconds, seam_seconds=args.seam_seconds, **common)
    return None


def _regions(args: Values) -> list[str]:
    """One text for all items, or one per item."""
    if not args.one_list_per_line:
        return [", ".join(args.region)]
    return [line for text in args.region for line in text.splitlines() if line.strip()]


def extension_of(args: Values) -> Extension:
    """How a source is to be extended past the model's maximum."""
    given = {
        "context": args.context_seconds,
        "overlap": args.overlap_seconds,
        "longest": args.window_seconds,
    }
    return Extension(
        add=args.add,
        before=args.where == START,
        crossfade=args.crossfade_ms / 1000,
        rule=args.rule,
        **{name: value for name, value in given.items() if value is not None},
    )
