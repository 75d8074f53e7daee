"""Headroom: decided where a latent gets its length, it travels with it to the sampler."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(("headroom", "frames"), [(0.0, 12), (2.0, 34), (6.0, 76), (30.0, 334)])
def test_the_latent_is_as_long_as_the_piece_and_its_headroom(bridge, headroom, frames):
    latent = bridge.coding.empty_latent([1.0], 1, headroom)
    assert latent["samples"].shape == (1, 256, frames)
    assert ("headroom" in latent) == (headroom != 6.0), "graphs as they were keep their latents"
    assert bridge.values.start_latent(latent).headroom == headroom
