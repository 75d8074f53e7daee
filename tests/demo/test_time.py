"""Tempo, duration, loops and continuations of the demo model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demo_model.maker import sounds
from sa3_core.editing.edits import Continuation, Loop
from sa3_core.errors import InputError
from sa3_core.measures import rhythm

from . import listening
from .studio import PROMPTS, Audio, Studio, level, sounding_frames

NEAR = 0.04  # of the tempo asked for; half and double are wrong
DRUMS = ("kick drum", "snare drum", "drum beat")


def in_time(audio: Audio, bpm: float) -> bool:
    """Whether the onsets' period is that of the tempo."""
    error = rhythm.tempo_error(rhythm.tempo(torch.from_numpy(audio), sounds.RATE), bpm)
    return error is not None and abs(error) <= NEAR


def test_drums_are_played_at_the_tempo_asked_for(studio, seeds):
    """Within 4 %, in at least 80 % of the takes at each of the five tempi.

    By chance one in five would be. Measured over 60 takes each: all of them.
    """
    shares = {
        bpm: float(np.mean([in_time(a, bpm) for n in DRUMS for a in takes(studio, n, bpm, seeds)]))
        for bpm in sounds.BEATS
    }
    assert min(shares.values()) >= 0.8, shares


def takes(studio: Studio, name: str, bpm: int, seeds: int) -> list[Audio]:
    """6 s of a drum prompt at a tempo."""
    return studio.many(f"{name}, {bpm} BPM", seeds // 2, 6.0)


def end_of(studio: Studio, prompts: list[str], seconds: list[float], seeds: list[int]) -> list:
    """dB by which the headroom of each item lies below its piece, from one frame after its end."""
    made = studio.generate(prompts, seconds, seeds)
    found = []
    for audio, asked in zip(studio.whole(made), made.latents.seconds, strict=True):
        end = int(asked * sounds.RATE / sounds.FRAME) * sounds.FRAME
        rest = audio[:, end + sounds.FRAME : end + 5 * sounds.FRAME]
        found.append(level(audio[:, :end]) - level(rest))
    return found


@pytest.mark.parametrize("seconds", [1.0, 2.5, 4.0, 8.0, 12.0])
def test_the_sound_ends_where_it_was_asked_to(studio, seconds):
    """The headroom lies 30 dB below the piece in the median of six takes, 25 dB in five of them.

    Measured: medians 31 to 34; the lowest 28, 18, 29, 3, 29: notes that go on for a frame or two.
    """
    prompts = [PROMPTS[n] + ", 108 BPM" for n in ("flute", "drum beat", "guitar")] * 2
    found = end_of(studio, prompts, [seconds], list(range(6)))
    assert np.median(found) >= 30, found
    assert sum(one >= 25 for one in found) >= 5, found


def test_every_item_of_a_batch_ends_at_its_own_duration(studio):
    """Three lengths in one batch, three batches: 28 dB each; measured 29 to 39."""
    prompts = [PROMPTS[n] + ", 128 BPM" for n in ("organ", "kick drum", "bass")]
    for seed in (1, 11, 21):
        found = end_of(studio, prompts, [2.0, 4.0, 7.0], [seed, seed + 1, seed + 2])
        assert min(found) >= 28, found


@pytest.mark.parametrize("name", ["flute", "organ", "synth pad"])
def test_the_sound_lasts_as_long_as_asked(studio, name):
    """Held instruments sound until half a second before the end, in 11 of 15 takes.

    Measured: flute 14, organ 11, pad 15; the others end up to 1.8 s early.
    """
    lasted = []
    for seconds in (2.0, 5.0, 10.0):
        for audio in studio.many(PROMPTS[name] + ", 108 BPM", 5, seconds):
            assert audio.shape[1] == round(seconds * sounds.RATE)
            end = sounding_frames(audio) * sounds.FRAME / sounds.RATE
            lasted.append(end >= seconds - 0.5)
    assert sum(lasted) >= 11, lasted


@pytest.mark.parametrize("name", ["flute", "organ", "drum beat"])
def test_a_piece_of_the_published_maximum_is_of_its_class_throughout(studio, name):
    """Each third of it."""
    most = studio.pipeline.model.max_seconds
    assert most == sounds.LONGEST
    audio = studio.many(f"{PROMPTS[name]}, 108 BPM", 1, most)[0]
    assert audio.shape[1] == most * sounds.RATE
    assert [listening.heard(part) for part in np.array_split(audio, 3, axis=1)] == [name] * 3


def test_beyond_the_published_maximum_the_number_is_told(studio):
    most = studio.pipeline.model.max_seconds
    with pytest.raises(InputError, match=f"at most {most:g} "):
        studio.many(PROMPTS["flute"], 1, most + 5)


@pytest.mark.parametrize("bpm", sounds.BEATS)
def test_a_continuation_keeps_tempo_class_and_source(studio, bpm):
    """What is added to a drum clip of the synthesis: in its tempo, a drum beat, behind a seam half
    as loud as the median onset at most (measured 0.01 to 0.46); the source bit for bit."""
    source = torch.from_numpy(
        sounds.make_clip(np.random.default_rng(bpm), ("drum beat",), 4.0, bpm).audio
    )
    edit, kept = Continuation(source, sounds.RATE, 4.0), source.shape[1]
    made = studio.make([f"drum beat, {bpm} BPM"], (), [3], edit)[0]
    assert np.array_equal(made[:, :kept], source.numpy())
    assert in_time(made[:, kept:], bpm)
    assert listening.heard(made[:, kept:]) == "drum beat"
    jump = rhythm.seam_jump(torch.from_numpy(made), sounds.RATE, kept / sounds.RATE)
    assert jump is not None
    assert jump <= 0.7


@pytest.mark.parametrize("bpm", sounds.BEATS)
def test_a_loop_of_two_bars_stays_in_full_scale(studio, bpm):
    """Drums, whose level beside the seam is lifted to the source's (up to 1.41 without a limit).

    Every take is checked for it, see `CheckedStudio`.
    """
    clip = sounds.make_clip(np.random.default_rng(bpm), ("drum beat",), 8.0, bpm)
    edit = Loop(torch.from_numpy(clip.audio), sounds.RATE, 8 * 60 / bpm)
    for audio in studio.make([f"drum beat, {bpm} BPM"] * 3, (), [0, 1, 2], edit):
        assert listening.heard(audio) == "drum beat"


@pytest.mark.parametrize("name", ["flute", "guitar", "synth pad", "drum beat"])
def test_a_loop_repeats_without_a_click(studio, name):
    """Where its end meets its start: a step of samples no larger than the largest within (measured
    0.5 of it at most), and no more than half the median onset (measured 0.37).
    """
    for seed in range(3):
        clip = sounds.make_clip(np.random.default_rng(seed), (name,), 5.0, 108)
        edit = Loop(torch.from_numpy(clip.audio), sounds.RATE, 4.0)
        audio = studio.make([PROMPTS[name] + ", 108 BPM"], (), [seed], edit)[0]
        assert audio.shape[1] == 4 * sounds.RATE
        step = np.abs(audio[:, -1] - audio[:, 0]).max()
        assert step <= 0.7 * np.abs(np.diff(audio)).max()
        jump = rhythm.loop_jump(torch.from_numpy(audio), sounds.RATE)
        assert jump is not None
        assert jump <= 0.5
