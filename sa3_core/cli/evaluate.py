"""`sa3 evaluate`: the papers' scores of generated sounds against real ones."""

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..audio.file import read_audio
from ..errors import AudioError, InputError
from ..evaluation import clap, openl3, passt  # noqa: F401 - they register themselves
from ..evaluation.extractor import EXTRACTORS, Extractor, TextExtractor
from ..evaluation.reference import Reference, read_reference, write_reference
from ..evaluation.scores import (
    CLAP,
    FD,
    KL,
    METRICS,
    Clip,
    Listener,
    Score,
    check_pairs,
    clap_score,
    class_probabilities,
    fd_score,
    frame_statistics,
    kl_score,
)
from ..files.whole_file import whole_file
from ..measures.durations import DurationClasses
from .clips import FoundClip, check_distinct, find_clips, read_prompts
from .files import Bars, check_outputs, pick_device

log = logging.getLogger(__name__)


@dataclass
class _Evaluation:
    """Both sides, and what has been heard of the reference.

    Attributes:
        generated: clips.
        clips: of the reference; none where it was listened to before.
        alike: those of the class of durations that is asked for; all where none is.
        reference: what is known of it.
        listener: reads all of them.
        load: an extractor by its name.
        content: of OpenL3.
    """

    generated: list[Clip]
    clips: list[Clip]
    alike: list[Clip]
    reference: Reference
    listener: Listener
    load: Callable[[str], Extractor]
    content: str

    def fd(self) -> Score:
        """Fréchet distance."""
        if not self.clips and self.reference.statistics is None:
            raise InputError("fd-openl3: the reference file holds no statistics.")
        extractor = self.load(f"openl3-{self.content}")
        if self.clips:
            heard = frame_statistics(self.alike, extractor, self.listener)
            self.reference = replace(self.reference, statistics=heard.statistics)
        assert self.reference.statistics is not None
        heard = frame_statistics(self.generated, extractor, self.listener)
        return fd_score(self.reference.statistics, heard)

    def kl(self) -> Score:
        """KL divergence."""
        known = [clip.id for clip in self.clips] or list(self.reference.probabilities)
        if not known:
            raise InputError(
                "kl-passt: the reference file holds no class probabilities of single clips. Name "
                "the folder of the sounds."
            )
        wanted = [clip.id for clip in self.generated]
        check_pairs(known, wanted, "reference clip")
        if set(known) - set(wanted):
            log.warning("%d reference clips have no generated one.", len(set(known) - set(wanted)))
        extractor = self.load("passt")
        if self.clips:
            paired = [clip for clip in self.clips if clip.id in set(wanted)]
            found = class_probabilities(paired, extractor, self.listener)
            self.reference = replace(self.reference, probabilities=found)
        heard = class_probabilities(self.generated, extractor, self.listener)
        return kl_score(self.reference.probabilities, heard)

    def clap(self) -> Score:
        """CLAP score."""
        known = [clip.id for clip in self.generated if clip.prompt is not None]
        if not known:
            raise InputError("clap: no clip's prompt is known. Name them with --prompts.")
        check_pairs(known, [clip.id for clip in self.generated], "prompt")
        extractor = self.load("clap")
        if not isinstance(extractor, TextExtractor):
            raise InputError("clap: this extractor takes no texts.")
        return clap_score(self.generated, extractor, self.listener)


def run_evaluate(args: argparse.Namespace) -> Iterator[str]:
    """A JSON line per score.

    Raises:
        InputError: a side or a pair that is not there, or nothing that could be made.
        AudioError: after the scores were made, where a file cannot be read.
    """
    if args.save_reference is not None:
        check_outputs([args.save_reference], force=False)
    device = pick_device(args.device)
    prompts = None if args.prompts is None else read_prompts(args.prompts)
    within = _within(args)
    generated, _ = _clips(args.generated, prompts, within)
    if not generated:
        raise InputError(f"{args.generated} has no {args.duration_class} clips.")
    listened = args.reference.suffix.lower() == ".npz"
    alike, clips = ([], []) if listened else _clips(args.reference, None, within)
    with Bars() as on_progress:
        evaluation = _Evaluation(
            generated,
            clips,
            alike,
            read_reference(args.reference) if listened else Reference(),
            Listener(on_progress),
            lambda name: EXTRACTORS[name](args.weights, device),
            args.content,
        )
        told = {} if args.duration_class is None else {"duration_class": args.duration_class}
        scores = _scores(evaluation, args.metric)
        lines = [json.dumps({**asdict(score), **told}) for score in scores]
    if args.save_reference is not None:
        with whole_file(args.save_reference) as whole:
            write_reference(evaluation.reference, whole.file)
    yield from lines
    unread = evaluation.listener.unread
    if unread:
        path, why = next(iter(unread.items()))
        raise AudioError(f"{len(unread)} files were left out, first {path} ({why})")


def _clips(
    path: Path, prompts: dict[str, str] | None, within: Callable[[FoundClip], bool]
) -> tuple[list[Clip], list[Clip]]:
    """The clips that are wanted, and all of them."""
    found = find_clips(path)
    check_distinct(found, path)
    known = {clip.id: clip.prompt for clip in found if clip.prompt} if prompts is None else prompts
    clips = {clip.id: Clip(clip.id, clip.path, known.get(clip.id)) for clip in found}
    return [clips[clip.id] for clip in found if within(clip)], list(clips.values())


def _within(args: argparse.Namespace) -> Callable[[FoundClip], bool]:
    """Whether a clip is of the class of durations that is asked for."""
    classes = DurationClasses(*args.class_bounds or ())

    def within(clip: FoundClip) -> bool:
        try:
            seconds = _seconds(clip)
        except AudioError:
            return True  # what cannot be read is told where it is listened to
        return classes.of(seconds) == args.duration_class

    return (lambda clip: True) if args.duration_class is None else within


def _seconds(clip: FoundClip) -> float:
    if clip.seconds is not None:
        return clip.seconds
    audio, rate = read_audio(clip.path)
    return audio.shape[-1] / rate


def _scores(evaluation: _Evaluation, wanted: list[str]) -> Iterator[Score]:
    """The scores that were asked for, or all that can be had, with why others cannot."""
    makers = {FD: evaluation.fd, KL: evaluation.kl, CLAP: evaluation.clap}
    missing: list[str] = []
    made = 0
    for metric in METRICS:
        if wanted and metric not in wanted:
            continue
        try:
            score = makers[metric]()
        except InputError as error:
            if wanted:
                raise
            missing.append(str(error))
            continue
        made += 1
        if score.note:
            log.warning("%s: %s", metric, score.note)
        yield score
    if not made:
        raise InputError(" ".join(missing))
    for sentence in missing:
        log.warning("left out: %s", sentence)
