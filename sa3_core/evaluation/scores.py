"""FD-openl3, KL-passt and CLAP score over clips, as stable-audio-metrics defines them.

Source:
    stable-audio-metrics (fd55536): src/openl3_fd.py (extract_embeddings, channels 2),
    src/passt_kld.py (collect="mean"), src/clap_score.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..audio.file import read_audio
from ..errors import AudioError, InputError
from ..measures.distances import (
    FrameSums,
    Statistics,
    cosine_score,
    frechet_distance,
    kl_divergence,
    softmax,
)
from .extractor import Extractor, TextExtractor
from .signals import mono, peak_normalised, resampled, through_16_bits, windows

FD, KL, CLAP = "fd-openl3", "kl-passt", "clap"
METRICS = (FD, KL, CLAP)
LEAST_CLIPS = 2
_FD_RATE = 44100
_KL_WINDOW, _KL_HOP = 10, 5  # seconds


@dataclass(frozen=True)
class Clip:
    """A sound file to listen to.

    Attributes:
        id: what pairs it with the reference's and with its prompt.
        path: the file.
        prompt: what it was asked to be; None = not known.
    """

    id: str
    path: Path
    prompt: str | None = None


@dataclass(frozen=True)
class Score:
    """One number of a set of clips.

    Attributes:
        metric: one of METRICS.
        value: of it.
        clips: generated ones that it was made from.
        note: what to know about it; '' = nothing.
    """

    metric: str
    value: float
    clips: int
    note: str = ""


@dataclass(frozen=True, eq=False)
class Heard:
    """What was heard of clips.

    Attributes:
        statistics: of the frames of all of them together.
        clips: how many could be read.
        frames: how many they have.
    """

    statistics: Statistics
    clips: int
    frames: int


class Listener:
    """Reads clips one by one; what cannot be read is left out and remembered.

    Attributes:
        unread: why, by path.
    """

    def __init__(self, on_progress: Callable[[str, int, int], None] = lambda *_: None) -> None:
        self.unread: dict[Path, str] = {}
        self._on_progress = on_progress

    def sounds(self, label: str, clips: Sequence[Clip]) -> Iterator[tuple[Clip, np.ndarray, int]]:
        """(clip, [A, N] float32, Hz) of those that can be read."""
        for number, clip in enumerate(clips):
            if clip.path not in self.unread:
                try:
                    audio, rate = read_audio(clip.path)
                    if not bool(audio.isfinite().all()):
                        raise AudioError(f"{clip.path} holds samples that are NaN or infinite.")
                except AudioError as error:
                    self.unread[clip.path] = str(error)
                else:
                    yield clip, audio.numpy(), rate
            self._on_progress(label, number + 1, len(clips))


def frame_statistics(clips: Sequence[Clip], extractor: Extractor, listener: Listener) -> Heard:
    """Listen to all clips, each at -1 dB and 44.1 kHz.

    Left and right are listened to apart and put side by side; a mono clip is both.

    Raises:
        InputError: fewer than LEAST_CLIPS clips.
    """
    sums, heard = FrameSums(), 0
    for _, audio, rate in listener.sounds(FD, clips):
        sound = resampled(peak_normalised(audio), rate, _FD_RATE)
        sound = resampled(sound, _FD_RATE, extractor.sample_rate)
        sides = [extractor.embed(np.ascontiguousarray(side)) for side in sound[:2]]
        sums.add(np.concatenate([sides[0], sides[-1]], axis=1))
        heard += 1
    _check_enough(heard, FD)
    return Heard(sums.statistics(), heard, sums.count)


def class_probabilities(
    clips: Sequence[Clip], extractor: Extractor, listener: Listener
) -> dict[str, np.ndarray]:
    """Probabilities [K] of classes, by id: logits are averaged over windows, then a softmax."""
    found = {}
    for clip, audio, rate in listener.sounds(KL, clips):
        target = extractor.sample_rate
        sound = peak_normalised(resampled(mono(audio), rate, target))
        pieces = windows(sound, _KL_WINDOW * target, _KL_HOP * target)
        logits = np.concatenate([extractor.embed(np.ascontiguousarray(piece)) for piece in pieces])
        found[clip.id] = softmax(logits.astype(np.float64).mean(axis=0))
    return found


def fd_score(reference: Statistics, generated: Heard) -> Score:
    """Fréchet distance of the two; a note where there are too few frames for a stable one."""
    size = len(reference.mean)
    note = ""
    if generated.frames <= size:
        note = (
            f"{generated.frames} frames for a covariance of {size} numbers: it is singular, and "
            "the distance larger than it would be with more clips."
        )
    return Score(FD, frechet_distance(reference, generated.statistics), generated.clips, note)


def kl_score(reference: Mapping[str, np.ndarray], generated: Mapping[str, np.ndarray]) -> Score:
    """Mean KL(generated ‖ reference) over the ids that both have.

    Raises:
        InputError: fewer than LEAST_CLIPS ids, or probabilities of different numbers of classes.
    """
    ids = [name for name in generated if name in reference]
    _check_enough(len(ids), KL)
    rows = [np.stack([source[name] for name in ids]) for source in (reference, generated)]
    return Score(KL, kl_divergence(*rows), len(ids))


def clap_score(clips: Sequence[Clip], extractor: TextExtractor, listener: Listener) -> Score:
    """Mean cosine of the embeddings of prompts and clips.

    Raises:
        InputError: fewer than LEAST_CLIPS clips.
    """
    rows, prompts = [], []
    for clip, audio, rate in listener.sounds(CLAP, clips):
        sound = peak_normalised(resampled(mono(audio), rate, extractor.sample_rate))
        rows.append(extractor.embed(through_16_bits(sound))[0])
        prompts.append(clip.prompt or "")
    _check_enough(len(rows), CLAP)
    return Score(CLAP, cosine_score(extractor.embed_texts(prompts), np.stack(rows)), len(rows))


def check_pairs(reference: Sequence[str], generated: Sequence[str], what: str) -> None:
    """Refuse generated clips that have no counterpart.

    Args:
        reference: ids that there are.
        generated: ids that ask for one.
        what: the counterpart, such as "reference clip".

    Raises:
        InputError: names the first ids.
    """
    lost = sorted(set(generated) - set(reference))
    if lost:
        shown = ", ".join(lost[:3]) + (" ..." if len(lost) > 3 else "")
        raise InputError(
            f"{len(lost)} of {len(set(generated))} generated clips have no {what} of the same id: "
            f"{shown}. An id is the file's name without its ending."
        )


def _check_enough(heard: int, metric: str) -> None:
    if heard < LEAST_CLIPS:
        raise InputError(
            f"{metric} needs {LEAST_CLIPS} clips or more; {heard} can be used here. The papers "
            "use thousands."
        )
