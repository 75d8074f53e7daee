"""Chunked encoding and decoding equal the whole signal's for every length and chunk."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from sa3_core.codec.chunking import decode_chunked, encode_chunked, plan_chunks
from sa3_core.errors import InputError
from sa3_core.networks.config import ResamplerConfig, SAMEConfig
from sa3_core.networks.same import SAMEAutoencoder, draw_decoder_noise
from tests.core.networks.test_same import load_tiny


@pytest.fixture(scope="module")
def nets(tiny_s, tiny_m):
    return {"tiny-s": load_tiny(tiny_s), "tiny-m": load_tiny(tiny_m)}


PAIRS = [(1, 1), (2, 1), (3, 2), (5, 1), (5, 3), (7, 4), (12, 5), (13, 6), (33, 8), (34, 100)]


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
@pytest.mark.parametrize(("frames", "chunk"), PAIRS)
def test_chunked_decode_equals_the_whole(nets, rel_l2, variant, frames, chunk):
    net = nets[variant]
    latent = torch.randn(1, 256, frames, generator=torch.Generator().manual_seed(frames))
    assert rel_l2(decode_chunked(net, latent, chunk), net.decode(latent)) <= 2e-5
    noise = draw_decoder_noise(3, latent.shape, net.config)
    chunked = decode_chunked(net, latent, chunk, noise=noise)
    assert rel_l2(chunked, net.decode(latent, noise)) <= 2e-5


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
@pytest.mark.parametrize(("frames", "chunk"), PAIRS)
def test_chunked_encode_equals_the_whole(nets, rel_l2, variant, frames, chunk):
    net = nets[variant]
    audio = torch.randn(2, 2, frames * 4096 - 1000, generator=torch.Generator().manual_seed(1))
    latent = encode_chunked(net, audio, chunk)
    assert latent.shape == (2, 256, frames)
    assert rel_l2(latent, net.encode(audio)) <= 2e-5


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_a_smaller_halo_would_not_do(nets, rel_l2, variant):
    net = nets[variant]
    latent = torch.randn(1, 256, 24, generator=torch.Generator().manual_seed(0))
    halo, net.halo = net.halo, net.halo - net.chunk_grid
    try:
        assert rel_l2(decode_chunked(net, latent, 8), net.decode(latent)) > 5e-5
    finally:
        net.halo = halo


def test_far_from_the_start_it_is_as_exact(nets, rel_l2):
    net, frames, end = nets["tiny-m"], 2500, 40
    latent = torch.randn(1, 256, frames, generator=torch.Generator().manual_seed(3))
    whole = net.decode(latent)[..., -(end - net.halo) * net.hop :]
    alone = net.decode(latent[..., -end:])[..., -(end - net.halo) * net.hop :]
    assert rel_l2(alone, whole) < 2e-5


def test_none_is_the_whole_at_once(nets):
    latent = torch.randn(1, 256, 9)
    assert torch.equal(decode_chunked(nets["tiny-s"], latent), nets["tiny-s"].decode(latent))


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_progress_counts_to_the_end_and_may_stop(nets, variant):
    net, seen = nets[variant], []
    latent = torch.randn(1, 256, 20)
    audio = decode_chunked(net, latent, 6, on_chunk=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total in seen} == {len(seen)}
    seen.clear()
    encode_chunked(net, audio, 6, on_chunk=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(seen), len(seen))

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_chunked(net, latent, 6, on_chunk=stop)


def test_plan_keeps_to_the_grid_and_covers_everything():
    for total in range(1, 40):
        for chunk in (1, 2, 3, 7, 50):
            plan = plan_chunks(total, chunk, 2, 2)
            assert plan[0].start == 0
            assert plan[-1].stop == total
            assert all(a.stop == b.start for a, b in pairwise(plan))
            assert all(p.start % 2 == p.low % 2 == 0 for p in plan)
            assert all(p.high % 2 == 0 for p in plan if p.high < total)
            assert all(p.stop - p.start <= chunk + chunk % 2 for p in plan)
            assert all(p.low <= max(0, p.start - 2) for p in plan)
            assert all(p.high >= min(total, p.stop + 2) for p in plan)
            assert len({p.high + p.high % 2 - p.low for p in plan}) == 1
            assert len(plan) == -(-total // (chunk + chunk % 2))


def test_bad_chunk_lengths_and_empty_signals_are_refused(nets):
    with pytest.raises(InputError, match="chunk is 0"):
        decode_chunked(nets["tiny-s"], torch.randn(1, 256, 4), 0)
    with pytest.raises(InputError, match="at least 1"):
        encode_chunked(nets["tiny-s"], torch.randn(1, 2, 0))


@pytest.mark.parametrize(
    "style", [{"chunk": 64, "window": None, "kernel": 3}, {"chunk": None, "window": 2, "kernel": 3}]
)
def test_the_halo_follows_the_config(rel_l2, style):
    """Unpublished sizes: chunks of 4 latents, a window of 2."""
    sizes = {"channels": 512, "width": 64, "depth": 3, **style}
    encoder = ResamplerConfig(**{**sizes, "kernel": 1})
    net = SAMEAutoencoder(SAMEConfig(encoder, ResamplerConfig(**sizes))).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        spread = 0.5 if tensor.ndim < 2 else 1.5 * max(1, tensor[0].numel()) ** -0.5
        tensor.normal_(1.0 if "std" in name else 0.0, spread, generator=generator)
    latent = torch.randn(1, 256, 31, generator=generator)
    whole = net.decode(latent)
    assert rel_l2(decode_chunked(net, latent, 5), whole) <= 2e-5
    assert rel_l2(encode_chunked(net, whole, 5), net.encode(whole)) <= 2e-5
    net.halo //= 4  # 1: far too short for either
    assert rel_l2(decode_chunked(net, latent, 5), whole) > 5e-5
