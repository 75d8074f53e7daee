"""Audio-to-audio, inpainting and the way between two seeds with the demo model."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from demo_model.maker import sounds
from sa3_core.editing.edits import AudioToAudio, Inpaint
from sa3_core.measures import rhythm

from . import listening
from .studio import PROMPTS, Audio, level

BPM = 128


def clip(name: str, seconds: float = 5.0, seed: int = 5) -> torch.Tensor:
    """A fresh clip of the synthesis, [2, samples]."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(sounds.make_clip(rng, (name,), seconds, BPM).audio)


def likeness_of_rhythm(a: Audio, b: Audio) -> float:
    """Correlation of the onset strengths of two sounds, at most 1."""
    strengths = [rhythm.onset_strength(torch.from_numpy(x), sounds.RATE) for x in (a, b)]
    count = min(map(len, strengths))
    return float(np.corrcoef(strengths[0][:count], strengths[1][:count])[0, 1])


def test_audio_to_audio_keeps_the_source_at_a_low_level_and_obeys_the_prompt_at_a_high_one(studio):
    """Flute to bells: at 0.4 the rhythm stays (correlation above 0.5), from 0.7 on it is bells."""
    kept, became = [], {0.4: 0, 0.7: 0, 0.9: 0}
    for seed in range(4):
        source = clip("flute", seed=seed)
        for noise in became:
            prompt = f"{PROMPTS['bells']}, {BPM} BPM"
            edit = AudioToAudio(source, sounds.RATE)
            audio = studio.make([prompt], (), [seed], edit, noise_level=noise)[0]
            became[noise] += listening.heard(audio) == "bells"
            if noise == 0.4:
                kept.append(likeness_of_rhythm(audio, source.numpy()))
    assert min(kept) > 0.5, kept
    assert became[0.7] >= 3, became
    assert became[0.9] >= 3, became


def test_inpainting_keeps_samples_and_remakes_the_part_as_asked(studio):
    """Kept samples bit for bit; the new part is of the prompt's class in 6 of 9 takes."""
    right = []
    for name in ("bells", "organ", "bass"):
        for seed in range(3):
            source = clip("flute", 6.0, seed)
            edit = Inpaint(source, sounds.RATE, ["2-4"])
            prompt = f"{PROMPTS[name]}, {BPM} BPM"
            audio = studio.make([prompt], (), [seed], edit)[0]
            first, last = 2 * sounds.RATE, 4 * sounds.RATE
            kept = source.numpy()
            assert np.array_equal(audio[:, : first - sounds.FRAME], kept[:, : first - sounds.FRAME])
            assert np.array_equal(
                audio[:, last + sounds.FRAME : kept.shape[1]], kept[:, last + sounds.FRAME :]
            )
            right.append(listening.heard(audio[:, first:last]) == name)
    assert sum(right) >= 6, right


def test_seams_are_no_louder_than_the_sounds_own_onsets(studio):
    """Over 5 takes the median of both seams' jumps is at most that of the sound's onsets."""
    jumps = []
    for seed in range(5):
        source = clip("drum beat", 6.0, seed)
        edit = Inpaint(source, sounds.RATE, ["2.2-4.1"])
        audio = studio.make([f"drum beat, {BPM} BPM"], (), [seed], edit)[0]
        for at in (2.2, 4.1):
            jump = rhythm.seam_jump(torch.from_numpy(audio), sounds.RATE, at)
            jumps.append(0.0 if jump is None else jump)
    assert float(np.median(jumps)) <= 1.0, jumps


def test_the_way_between_two_seeds_is_smooth(studio):
    """Each of five steps is smaller than half of the whole way; every stop is a flute."""
    from sa3_core.pipeline import GenerateRequest, generate

    def stop(strength: float) -> Audio:
        request = GenerateRequest(
            [PROMPTS["flute"] + ", 108 BPM"], (), [3.0], seeds=[11], variation=(12, strength)
        )
        return generate(studio.pipeline, request).takes[0].audio.numpy()

    takes = [stop(part) for part in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    assert all(listening.heard(audio) == "flute" for audio in takes)
    spectra = [listening.features(audio) for audio in takes]
    assert level(takes[0] - takes[1]) < level(takes[0]) + 3
    steps = [float(np.linalg.norm(a - b)) for a, b in itertools.pairwise(spectra)]
    assert max(steps) < 0.6, steps
