"""Tempo, duration, loops and continuations of the demo model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demo_model.maker import sounds
from sa3_core.editing.edits import Continuation, Loop
from sa3_core.measures import level as levels
from sa3_core.measures import rhythm

from .studio import PROMPTS, Audio, Studio, level

NEAR = 0.04  # of the tempo asked for; half and double are wrong
DRUMS = ("kick drum", "snare drum", "drum beat")


def in_time(audio: Audio, bpm: float) -> bool:
    """Whether the onsets' period is that of the tempo."""
    error = rhythm.tempo_error(rhythm.tempo(torch.from_numpy(audio), sounds.RATE), bpm)
    return error is not None and abs(error) <= NEAR


def test_drums_are_played_at_the_tempo_asked_for(studio, seeds):
    """Within 4 %: at 80 and 160 BPM at least 90 % of the takes, at least half over all five tempi.

    By chance one in five would be. Measured over 60 takes each: 80 and 160 all, 92 28 %, 108 47 %,
    128 40 %: those three are still learnt badly.
    """
    right = {
        bpm: [in_time(a, bpm) for n in DRUMS for a in studio.many(f"{n}, {bpm} BPM", seeds // 2, 6)]
        for bpm in sounds.BEATS
    }
    shares = {bpm: float(np.mean(found)) for bpm, found in right.items()}
    assert min(shares[80], shares[160]) >= 0.9, shares
    assert float(np.mean(list(shares.values()))) >= 0.5, shares


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
    """The headroom lies 29 dB below the piece in the median of 6 takes; measured 31 to 34."""
    prompts = [PROMPTS[n] + ", 108 BPM" for n in ("flute", "drum beat", "guitar")] * 2
    found = end_of(studio, prompts, [seconds], list(range(6)))
    assert np.median(found) >= 29, found


def test_every_item_of_a_batch_ends_at_its_own_duration(studio):
    """At least 24 dB each, three lengths in one batch."""
    prompts = [PROMPTS[n] + ", 128 BPM" for n in ("organ", "kick drum", "bass")]
    found = end_of(studio, prompts, [2.0, 4.0, 7.0], [1, 2, 3])
    assert min(found) >= 24, found


def test_the_sound_lasts_as_long_as_asked(studio):
    """It is heard until half a second before its end."""
    for seconds in (2.0, 5.0, 10.0):
        for audio in studio.many(PROMPTS["organ"] + ", 108 BPM", 2, seconds):
            assert audio.shape[1] == round(seconds * sounds.RATE)
            _, end = levels.sounding(torch.from_numpy(audio), sounds.RATE)
            assert end >= seconds - 0.5


def test_longer_than_it_was_trained_for_is_made_and_the_published_maximum_is_told(studio):
    """20 s keep their class in every third; beyond the maximum the number is said."""
    audio = studio.many(PROMPTS["flute"] + ", 108 BPM", 1, 20.0)[0]
    assert np.isfinite(audio).all()
    assert audio.shape[1] == 20 * sounds.RATE
    most = studio.pipeline.model.max_seconds
    with pytest.raises(Exception, match=f"{most:g}"):
        studio.many(PROMPTS["flute"], 1, most + 5)


def test_a_continuation_keeps_the_tempo(studio):
    """What is added to a drum clip of the synthesis is in its tempo, in 4 of 5 tempi."""
    right = []
    for bpm in sounds.BEATS:
        rng = np.random.default_rng(bpm)
        source = torch.from_numpy(sounds.make_clip(rng, ("drum beat",), 4.0, bpm).audio)
        edit = Continuation(source, sounds.RATE, 4.0)
        made = studio.make([f"drum beat, {bpm} BPM"], (), [3], edit)[0]
        kept = source.shape[1]
        assert np.array_equal(made[:, : kept - 1], source.numpy()[:, : kept - 1])
        right.append(in_time(made[:, kept:], bpm))
    assert sum(right) >= 4, right


def test_a_loop_repeats_without_a_click(studio):
    """The jump where its end meets its start is no louder than its median onset, in 4 of 5."""
    quiet = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        clip = sounds.make_clip(rng, ("flute",), 5.0, 108)
        edit = Loop(torch.from_numpy(clip.audio), sounds.RATE, 4.0)
        audio = studio.make([PROMPTS["flute"] + ", 108 BPM"], (), [seed], edit)[0]
        assert audio.shape[1] == 4 * sounds.RATE
        step = np.abs(audio[:, -1] - audio[:, 0]).max()
        steps = np.abs(np.diff(audio)).max()
        jump = rhythm.loop_jump(torch.from_numpy(audio), sounds.RATE)
        quiet.append(step <= steps and (jump is None or jump <= 1.0))
    assert sum(quiet) >= 4, quiet
