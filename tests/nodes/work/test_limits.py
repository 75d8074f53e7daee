"""Lengths that ride on AUDIO count only while they fit; what one prompt may ask for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sa3_core.errors import InputError
from sa3_core.text.tokenizers import check_prompts


def _audio() -> dict:
    waveform = torch.full((2, 2, 1000), 0.5)
    waveform[1, :, 600:] = 0
    return {"waveform": waveform, "sample_rate": 44100, "lengths": [1000, 600]}


CHANGES = {
    "doubled": lambda w: torch.cat([w, w], dim=-1),
    "resampled": lambda w: F.interpolate(w, scale_factor=2.0),
    "padded": lambda w: F.pad(w, (0, 500)),
    "cut": lambda w: w[..., :500],
    "other batch": lambda w: w[:1],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_audio_that_another_node_changed_counts_whole(bridge, change):
    audio = _audio()
    made = change(audio["waveform"])
    assert bridge.riding.audio_lengths({**audio, "waveform": made}) == [made.shape[-1]] * len(made)


def test_lengths_that_fit_are_kept(bridge):
    audio = _audio()
    assert bridge.riding.audio_lengths(audio) == [1000, 600]
    assert bridge.riding.audio_lengths({**audio, "waveform": audio["waveform"] * 0.5}) == [
        1000,
        600,
    ]


@pytest.mark.parametrize(
    ("seconds", "batch", "wanted"),
    [
        ([1.0] * 100_000, 1, "100000 items; at most 1000"),
        ([1.0], 100_000, "100000 items; at most 1000"),
        ([100_000.0], 900, "GB as latents; at most 4 GB"),
    ],
)
def test_what_would_take_the_machine_is_refused(bridge, seconds, batch, wanted):
    with pytest.raises(ValueError, match=wanted):  # the pack has a copy of InputError
        bridge.coding.empty_latent(seconds, batch)


def test_a_prompt_of_a_million_characters_is_refused_unread():
    with pytest.raises(InputError, match="1000000 characters; at most 100000"):
        check_prompts(["a" * 1_000_000])
    check_prompts(["a" * 100_000])
