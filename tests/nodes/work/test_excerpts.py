"""Inpaint Mask with `context_seconds`: a song longer than the model's maximum."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.editing_support import RATE, music


@pytest.fixture(scope="module")
def nodes(small):
    return small.module("nodes.editing")


@pytest.fixture(scope="module")
def song(small):
    """A song of a minute more than the tiny model makes."""
    longest = small.module("sa3_core.networks.model").max_seconds(
        small.model.model.info.sample_size
    )
    return music(longest + 60, RATE, 1), longest


def mask(small, nodes, audio, **settings):
    return nodes.SA3InpaintMask.execute(audio=audio, vae=small.vae, **settings)


def test_a_song_longer_than_the_models_maximum(small, nodes, song):
    audio, longest = song
    at = longest + 20
    masked = mask(small, nodes, audio, regions=f"{at}-{at + 1}", context_seconds=2.0)
    latent = masked.args[0]
    assert latent["seconds"][0] <= 5.2
    assert latent["samples"].shape[-1] < 150
    assert masked.args[1] == [[pytest.approx((at, at + 1))]]
    said = "\n".join(masked.ui["text"])
    assert "The model hears" in said
    assert f"asked for {at:.3f}-{at + 1:.3f} s" in said
    out = small.decode(small.sample(latent))
    source, made = audio["waveform"], out["waveform"]
    assert made.shape == source.shape
    first, last = round(at * RATE), round((at + 1) * RATE)
    assert torch.equal(made[..., :first], source[..., :first])
    assert torch.equal(made[..., last:], source[..., last:])
    assert not torch.equal(made, source)


def test_elsewhere_the_refusal_says_what_to_do(small, nodes, song):
    audio, longest = song
    encode = small.module("nodes.latent").SA3SAMEEncode
    short = {**audio, "waveform": audio["waveform"][..., : 2 * RATE]}
    latent = encode.execute(short, small.vae).args[0]
    continued = nodes.SA3ContinueAudio.execute(short, small.vae, 1.0).args[0]
    for given in (latent, continued):
        long = {**given, "seconds": [longest + 1]}
        with pytest.raises(ValueError, match=r"context_seconds of Inpaint Mask.*Extend Audio"):
            small.sample(long)
    empty = small.module("nodes.latent").SA3EmptyLatent.execute(longest + 1).args[0]
    with pytest.raises(ValueError, match="Choose a shorter piece") as refused:
        small.sample(empty)
    assert "context_seconds" not in str(refused.value)


def test_it_is_of_no_use_beside_a_latent(small, nodes):
    latent = small.encode(music(1.0))
    with pytest.raises(ValueError, match="context_seconds is 2, but a latent is given"):
        nodes.SA3InpaintMask.execute(latent=latent, regions="0.2-0.4", context_seconds=2.0)
    with pytest.raises(ValueError, match=r"context_seconds is 0\.01"):
        mask(small, nodes, music(1.0), regions="0.2-0.4", context_seconds=0.01)


def test_each_item_of_a_batch_has_a_part_of_its_own(small, nodes):
    audio = music(8.0)
    lines = "1-1.5\n6-6.25"
    masked = mask(small, nodes, audio, regions=lines, one_list_per_line=True, context_seconds=0.5)
    out = small.decode(small.sample(masked.args[0], steps=1))["waveform"]
    for item, (start, end) in enumerate(((1, 1.5), (6, 6.25))):
        kept = torch.ones(8 * RATE, dtype=torch.bool)
        kept[round(start * RATE) : round(end * RATE)] = False
        assert torch.equal(out[item][:, kept], audio["waveform"][0][:, kept])
        assert not torch.equal(out[item], audio["waveform"][0])


def test_the_default_seam_fits_short_loops(small, nodes):
    audio = music(3.0)
    out = nodes.SA3Loop.execute(audio, small.vae, length_in="seconds")
    assert "seam_seconds 2 is more than half the loop: 1.500 s" in "\n".join(out.ui["text"])
    with pytest.raises(ValueError, match="must last"):
        nodes.SA3Loop.execute(audio, small.vae, length_in="seconds", seam_seconds=1.9)
    fits = nodes.SA3Loop.execute(music(4.0), small.vae, length_in="seconds")
    assert "more than half" not in "\n".join(fits.ui["text"])
