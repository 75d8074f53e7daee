"""Which values of `sa3 generate` go together, on the command line and in a row of a manifest."""

from argparse import Namespace as Values
from collections.abc import Iterator

DEFAULT_SECONDS = 30.0
DEFAULT_NOISE_LEVEL = 0.7  # of a source that is made anew as a whole
END, START = "end", "start"

Rule = tuple[object, str]  # true = refused, why


def usage_rules(args: Values) -> Iterator[Rule]:
    """All rules, in the order in which they are told."""
    yield from _source_rules(args)
    yield from _length_rules(args)
    yield from _window_rules(args)


def _source_rules(args: Values) -> Iterator[Rule]:
    """What only some sources take."""
    added = args.continue_audio or args.extend_audio
    some = "needs --continue-audio or --extend-audio"
    yield args.inpaint_audio and not args.region, "--inpaint-audio needs --region"
    yield args.region and not args.inpaint_audio, "--region needs --inpaint-audio"
    yield args.invert and not args.region, "--invert needs --region"
    yield args.one_list_per_line and not args.region, "--one-list-per-line needs --region"
    yield args.continue_audio and args.add is None, "--continue-audio needs --add"
    yield args.extend_audio and args.add is None, "--extend-audio needs --add"
    yield args.add is not None and not added, "--add needs --continue-audio or --extend-audio"
    yield args.where == START and not added, f"--where {some}"
    heard = args.context_seconds is not None and not (added or args.inpaint_audio)
    yield heard, "--context-seconds needs --inpaint-audio, --continue-audio or --extend-audio"
    unlooped = args.seam_seconds is not None and not args.loop_audio
    yield unlooped, "--seam-seconds needs --loop-audio"
    level = args.denoise is not None and not (args.init_audio or args.inpaint_audio)
    yield level, "--denoise or --noise-level needs --init-audio or --inpaint-audio"


def _length_rules(args: Values) -> Iterator[Rule]:
    """How long a piece is to be is said once."""
    bars, given = args.bars is not None, args.seconds or args.bars is not None
    lasts = "does not go with {}: the piece lasts its source and --add"
    yield given and args.continue_audio, "--seconds " + lasts.format("--continue-audio")
    yield given and args.extend_audio, "--seconds " + lasts.format("--extend-audio")
    part = given and args.inpaint_audio and args.context_seconds
    yield (
        part,
        "--seconds does not go with --context-seconds: the piece lasts as long as its source",
    )
    tempo = args.bpm is not None and not args.region and not bars
    yield tempo, "--bpm needs --region or --bars"
    yield bars and args.bpm is None, "--bars needs --bpm"
    yield bars and args.seconds, "--bars and --seconds both give the duration"
    yield args.loop_audio and len(args.seconds or ()) > 1, "--loop-audio takes one --seconds"
    yield args.seed and args.seeds, "--seed and --seeds both give seeds"


def _window_rules(args: Values) -> Iterator[Rule]:
    """Extending samples and decodes window by window."""
    windows = args.overlap_seconds is not None or args.window_seconds is not None
    needs = "--overlap-seconds and --window-seconds need --extend-audio"
    yield windows and not args.extend_audio, needs
    whole = args.latents_out or args.variation_strength or args.decoder_noise
    takes_no = "--extend-audio takes no --latents-out, --variation-strength or --decoder-noise"
    yield args.extend_audio and whole, f"{takes_no}: it works window by window"
    redrawn = args.extend_audio and not args.keep_source_exactly
    yield redrawn, "--extend-audio always keeps the source exactly"
