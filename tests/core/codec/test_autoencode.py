"""Encoding and decoding item by item: only what is needed, chunks that fit, seeded noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sa3_core.audio.waveform import prepare_source
from sa3_core.checkpoints.load import load_autoencoder
from sa3_core.codec import autoencode
from sa3_core.codec.autoencode import decode, encode, encode_items
from sa3_core.codec.latent_file import Latents
from sa3_core.errors import InputError
from sa3_core.geometry import HOP, samples_of
from sa3_core.networks.same import SAMEAutoencoder
from tests.helpers.support import rel_l2


@pytest.fixture(scope="module")
def small(tiny_s) -> SAMEAutoencoder:
    return load_autoencoder(tiny_s)


@pytest.fixture(scope="module", params=["tiny-s", "tiny-m"])
def autoencoder(request, small, tiny_m) -> SAMEAutoencoder:
    return small if request.param == "tiny-s" else load_autoencoder(tiny_m)


def test_decoding_only_what_a_piece_needs_changes_nothing(autoencoder):
    generator = torch.Generator().manual_seed(0)
    for length, seconds in ((27, 1.0), (40, 2.3), (82, 1.5)):
        frames = torch.randn(1, 256, length, generator=generator)
        whole = autoencoder.decode(frames)[0, :, : samples_of(seconds)]
        for chunk in (None, 7):
            made = decode(autoencoder, Latents(frames, (seconds,)), chunk)[0]
            assert rel_l2(made, whole) < 5e-5


def test_encoding_fills_up_the_last_frame(autoencoder):
    audio = torch.randn(1, 2, 3 * HOP + 1, generator=torch.Generator().manual_seed(0)) * 0.1
    latent = encode(autoencoder, audio)
    assert latent.shape == (1, 256, 4)
    assert rel_l2(encode(autoencoder, audio, chunk=1), latent) < 5e-5


def test_clips_of_a_list_are_as_they_are_alone(autoencoder):
    generator = torch.Generator().manual_seed(1)
    clips = [
        torch.randn(2, 2 * HOP + 5, generator=generator) * 0.1,
        torch.randn(1, 5 * HOP, generator=generator) * 0.1,
        torch.randn(2, HOP, generator=generator) * 0.1,
    ]
    rates = [44100, 22050, 48000]
    latents = encode(autoencoder, clips, sample_rate=rates)
    counts = [3, 10, 1]
    assert latents.frames.shape == (3, 256, 10)
    for item, (clip, rate, count) in enumerate(zip(clips, rates, counts, strict=True)):
        source = prepare_source(clip, rate)
        alone = encode(autoencoder, source)
        assert torch.equal(latents.frames[item : item + 1, :, :count], alone)
        assert not latents.frames[item, :, count:].any()
        assert samples_of(latents.seconds[item]) == source.shape[-1]
        assert torch.equal(encode(autoencoder, clip[None], sample_rate=rate), alone)
    lengths = [piece.shape[-1] for piece in decode(autoencoder, latents)]
    assert lengths == [2 * HOP + 5, 10 * HOP, prepare_source(clips[2], 48000).shape[-1]]


def test_lists_that_cannot_be_encoded_say_why(small):
    clip = torch.zeros(2, HOP)
    with pytest.raises(InputError, match="no clip"):
        encode(small, [])
    with pytest.raises(InputError, match="2 sample rates for 3 items"):
        encode(small, [clip] * 3, sample_rate=[44100, 48000])
    with pytest.raises(InputError, match=r"Clip 2 has shape \[1, 2, 4096\]; give \[A, N\]"):
        encode(small, [clip, clip[None]])


def test_the_decoders_noise_has_a_seed_of_its_own(small):
    frames = torch.randn(2, 256, 20, generator=torch.Generator().manual_seed(0))
    latents = Latents(frames, (1.0, 1.0))
    plain = decode(small, latents)
    first, again = (decode(small, latents, noise_seed=3) for _ in range(2))
    second = decode(small, Latents(frames[1:], (1.0,)), noise_seed=4)
    assert torch.equal(first[0], again[0])
    assert rel_l2(first[0], plain[0]) > 1e-4
    assert rel_l2(first[1], second[0]) < 1e-6


def test_chunks_are_chosen_by_free_memory_on_cuda(small, monkeypatch):
    seen = []

    def fake_decode(autoencoder, latent, chunk, **rest):
        seen.append(chunk)
        return torch.zeros(1, 2, latent.shape[-1] * HOP)

    class OnCuda:
        """Stands in for a parameter on a CUDA device."""

        is_cuda, device, dtype = True, torch.device("cpu"), torch.float32

    class Autoencoder:
        config, chunk_grid, halo = small.config, 2, 2
        parameters = staticmethod(lambda: iter([OnCuda]))
        check_files = staticmethod(lambda: None)

    monkeypatch.setattr(autoencode, "decode_chunked", fake_decode)
    latents = Latents(torch.zeros(1, 256, 4000), (300.0,))
    for free in (1e12, 1e6):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        decode(Autoencoder, latents)
    decode(Autoencoder, latents, chunk=5)
    assert seen[0] is None
    assert seen[1] < 4000
    assert seen[2] == 5


def test_items_share_what_is_encoded_of_the_same_source_at_the_same_length():
    asked = []

    def encode_one(source: Tensor, frames: int) -> Tensor:
        asked.append((float(source), frames))
        return torch.full((1, 256, frames), float(source))

    one, two = torch.tensor(1.0), torch.tensor(2.0)
    latent = encode_items(encode_one, [one, two], [3, 5, 3, 4])
    assert asked == [(1, 3), (2, 5), (2, 4)]
    assert latent.shape == (4, 256, 5)
    assert latent[:, 0].tolist() == [[1, 1, 1, 0, 0], [2] * 5, [1, 1, 1, 0, 0], [2, 2, 2, 2, 0]]
    assert encode_items(encode_one, [one], [2, 2]).shape == (2, 256, 2)
    assert asked[3:] == [(1, 2)]
