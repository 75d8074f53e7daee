"""`sa3 measure`: what sounds are like, without any model."""

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path

from ..audio.file import read_audio
from ..errors import AudioError
from ..files.whole_file import whole_file
from ..measures.clip import ClipMeasures, Request, bpm_of, measure_clip
from ..measures.durations import DurationClasses
from ..measures.summary import picture, table
from .clips import FoundClip, find_clips
from .files import Bars
from .measure_arguments import LINES, PICTURE, TABLE

log = logging.getLogger(__name__)


def run_measure(args: argparse.Namespace) -> Iterator[str]:
    """A JSON line per file, or the paths of what was written.

    Raises:
        AudioError: after all others were measured, where a file cannot be read.
        InputError: a path that is not there, or bounds of no classes.
    """
    classes = DurationClasses(*args.class_bounds or ())
    found = [clip for path in args.paths for clip in find_clips(path)]
    lines: list[str] = []
    clips: list[ClipMeasures] = []
    bad: list[Path] = []
    with Bars() as on_progress:
        for number, one in enumerate(found):
            path = one.path
            try:
                clip = measure_clip(*read_audio(path), _request(args, one))
            except AudioError as error:
                log.warning("%s", error)
                bad.append(path)
                lines.append(_line(path, {"error": str(error)}))
            else:
                clips.append(clip)
                lines.append(_line(path, clip.as_dict()))
            on_progress("measure", number + 1, len(found))
    yield from lines if args.out is None else _write(args.out, lines, table(clips, classes), clips)
    if bad:
        raise AudioError(f"{len(bad)} of {len(found)} files cannot be read, first {bad[0]}.")


def _request(args: argparse.Namespace, clip: FoundClip) -> Request:
    """What the flags say, else the clip's row or caption."""
    seconds = args.seconds if args.seconds is not None else clip.seconds
    bpm = args.bpm if args.bpm is not None else bpm_of(clip.prompt)
    return Request(seconds, bpm, tuple(args.seam), args.loop)


def _line(path: Path, values: dict[str, object]) -> str:
    return json.dumps({"file": str(path), **values}, ensure_ascii=False)


def _write(
    folder: Path, lines: list[str], summary: str, clips: list[ClipMeasures]
) -> Iterator[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ((LINES, "\n".join(lines)), (TABLE, summary)):
        with whole_file(folder / name) as whole:
            whole.file.write(f"{text}\n".encode())
        yield str(folder / name)
    with whole_file(folder / PICTURE) as whole:
        picture(clips).save(whole.file, "PNG")
    yield str(folder / PICTURE)
