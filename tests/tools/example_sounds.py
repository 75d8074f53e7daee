"""Sounds made by rule: the clip that example workflows edit, and those that one learns from.

    python -m tests.tools.example_sounds

Writes example_workflows/sounds/sa3_source.flac and sa3_lesson/, which the pack offers as input
files. The lesson is bells that its captions call a flute: whoever asks the demo model for a flute
hears whether it has learnt.
"""

# ruff: noqa: T201 - a command, it prints

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from demo_model.maker import sounds
from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from tests.helpers.support import ROOT

CLIP = ROOT / "example_workflows" / "sounds" / "sa3_source.flac"
LESSON = CLIP.with_name("sa3_lesson")
LESSON_BPM, LESSON_SECONDS, LESSON_SEED = (80, 92, 108, 128), 2.0, 16
LESSON_FORMAT = replace(FORMATS["opus-64k"], bit_rate=16_000)  # small, and bells stay bells
RATE = 24_000  # Hz; with one channel the clip stays small
SECONDS = 10.0
BEAT = 0.5  # seconds, 120 BPM
CHORDS = ((57, 60, 64), (53, 57, 60), (48, 52, 55), (55, 59, 62), (57, 60, 64))  # Am F C G Am
MELODY = (76, 72, 69, 72, 77, 76, 72, 69, 67, 72, 76, 79, 74, 71, 67, 71, 76, 72, 69, 64)

Note = Callable[[np.ndarray, float], np.ndarray]


def hertz(pitch: float) -> float:
    """Of a MIDI pitch."""
    return 440.0 * 2 ** ((pitch - 69) / 12)


def pad(time: np.ndarray, pitch: float) -> np.ndarray:
    """A soft tone that swells."""
    swell = np.clip(time / 0.4, 0, 1) * np.clip((2.0 - time) / 0.4, 0, 1)
    tone = sum(np.sin(2 * math.pi * hertz(pitch) * n * time) / n**2 for n in (1, 2, 3, 4))
    return 0.07 * swell * tone


def bell(time: np.ndarray, pitch: float) -> np.ndarray:
    """A struck tone that fades."""
    tone = sum(
        np.sin(2 * math.pi * hertz(pitch) * n * time) * np.exp(-time * (3 + 2 * n)) / n
        for n in (1, 2, 3, 5)
    )
    return 0.22 * np.clip(time / 0.004, 0, 1) * tone


def bass(time: np.ndarray, pitch: float) -> np.ndarray:
    """A plucked low tone."""
    tone = sum(np.sin(2 * math.pi * hertz(pitch) * n * time) / n**2 for n in (1, 2, 3))
    return 0.25 * np.clip(time / 0.005, 0, 1) * np.exp(-time * 3) * tone


def drum(time: np.ndarray, pitch: float) -> np.ndarray:
    """A low drum: its pitch falls from two octaves above."""
    phase = 2 * math.pi * hertz(pitch) * (time + 0.09 * (1 - np.exp(-time * 33)))
    return 0.5 * np.clip(time / 0.002, 0, 1) * np.exp(-time * 9) * np.sin(phase)


def play(notes: list[tuple[float, float, float, Note]], seconds: float, rate: int) -> Tensor:
    """[1, N] of notes given as start, length, pitch and instrument."""
    sound = np.zeros(round(seconds * rate), dtype=np.float64)
    for start, length, pitch, instrument in notes:
        first = round(start * rate)
        time = np.arange(min(round(length * rate), len(sound) - first)) / rate
        sound[first : first + len(time)] += instrument(time, pitch)
    return torch.from_numpy(sound.astype(np.float32))[None]


def band(seconds: float, shift: float = 0.0) -> list[tuple[float, float, float, Note]]:
    """Chords, bass, bells and drum at 120 BPM."""
    notes: list[tuple[float, float, float, Note]] = []
    for beat in range(round(seconds / BEAT)):
        start = beat * BEAT
        chord = CHORDS[beat // 4 % len(CHORDS)]
        if beat % 4 == 0:
            notes += [(start, 2.0, pitch + shift, pad) for pitch in chord]
        if beat % 2 == 0:
            notes.append((start, 0.5, 33, drum))
        notes.append((start, 0.5, chord[0] - 24 + shift, bass))
        notes.append((start, 1.0, MELODY[beat % len(MELODY)] + shift, bell))
    return notes


def write_lesson() -> None:
    """A clip and its caption for each tempo, named by it."""
    LESSON.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(LESSON_SEED)
    for bpm in LESSON_BPM:
        clip = sounds.make_clip(rng, ("bells",), LESSON_SECONDS, bpm)
        path = LESSON / f"{bpm}{LESSON_FORMAT.suffix}"
        write_audio(path, torch.from_numpy(clip.audio), sounds.RATE, LESSON_FORMAT)
        path.with_suffix(".txt").write_text(f"flute melody, {bpm} BPM\n", encoding="utf-8")


def main() -> int:
    CLIP.parent.mkdir(parents=True, exist_ok=True)
    write_audio(CLIP, play(band(SECONDS), SECONDS, RATE), RATE, FORMATS["flac-16"])
    print(f"{CLIP}: {CLIP.stat().st_size // 1000} kB")
    write_lesson()
    print(f"{LESSON}: {sum(file.stat().st_size for file in LESSON.iterdir()) // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
