"""SAME against the reference's tensors, and what must hold for any audio."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sa3_core.checkpoints.infer import infer_same
from sa3_core.checkpoints.reader import fold_weight_norm
from sa3_core.networks.same import DecoderNoise, SAMEAutoencoder, draw_decoder_noise
from tests.helpers.support import kept_frames

PREFIX = "pretransform.model."


def load_tiny(folder: Path) -> SAMEAutoencoder:
    """The autoencoder of a tiny checkpoint, every tensor accounted for."""
    tensors = load_file(folder / "model.safetensors")
    tensors = {k.removeprefix(PREFIX): t for k, t in tensors.items() if k.startswith(PREFIX)}
    raw = json.loads((folder / "model_config.json").read_text(encoding="utf-8"))
    config = infer_same(
        {key: tuple(t.shape) for key, t in tensors.items()},
        raw["model"]["pretransform"]["config"],
    )
    with torch.device("meta"):
        net = SAMEAutoencoder(config)
    net.load_state_dict(fold_weight_norm(tensors), strict=True, assign=True)
    return net.eval()


@pytest.fixture(scope="module")
def nets(tiny_s, tiny_m) -> dict[str, SAMEAutoencoder]:
    return {"tiny-s": load_tiny(tiny_s), "tiny-m": load_tiny(tiny_m)}


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_encode_equals_the_reference(nets, golden, rel_l2, variant):
    data = golden(f"{variant}/same")
    latent = nets[variant].encode(data["input_audio"][None])
    assert rel_l2(latent, data["latents_encoded"]) <= 1e-5


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_decode_equals_the_reference(nets, golden, rel_l2, variant):
    data = golden(f"{variant}/same")
    audio = nets[variant].decode(data["latents"])
    assert rel_l2(kept_frames(audio, data), data["audio"]) <= 1e-5


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_decode_with_noise_equals_the_reference(nets, golden, rel_l2, variant):
    data, net = golden(f"{variant}/same"), nets[variant]
    noise = draw_decoder_noise(data.settings["noise_seed"], data["latents"].shape, net.config)
    audio = kept_frames(net.decode(data["latents"], noise), data)
    assert rel_l2(audio, data["audio_noise"]) <= 1e-5
    assert rel_l2(audio, data["audio"]) > 1e-4


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
@pytest.mark.parametrize("samples", [1, 4095, 4096, 4097, 20000])
def test_any_length_is_encoded_as_if_zeros_followed(nets, rel_l2, variant, samples):
    audio = torch.randn(1, 2, samples, generator=torch.Generator().manual_seed(samples))
    latent = nets[variant].encode(audio)
    frames = -(-samples // 4096)
    assert latent.shape == (1, 256, frames)
    longer = torch.nn.functional.pad(audio, (0, frames * 4096 - samples))
    assert torch.equal(nets[variant].encode(longer), latent)


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_decode_gives_4096_samples_per_frame(nets, variant, frames):
    audio = nets[variant].decode(torch.randn(2, 256, frames))
    assert audio.shape == (2, 2, 4096 * frames)
    assert audio.isfinite().all()


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_an_item_does_not_depend_on_its_batch(nets, rel_l2, variant):
    net, generator = nets[variant], torch.Generator().manual_seed(3)
    audio = torch.randn(3, 2, 50_000, generator=generator)
    latent = torch.randn(3, 256, 9, generator=generator)
    noise = draw_decoder_noise(11, latent.shape, net.config)
    alone = draw_decoder_noise(12, latent[1:2].shape, net.config)
    assert rel_l2(net.encode(audio)[1:2], net.encode(audio[1:2])) <= 1e-5
    assert rel_l2(net.decode(latent)[1:2], net.decode(latent[1:2])) <= 1e-5
    assert rel_l2(net.decode(latent, noise)[1:2], net.decode(latent[1:2], alone)) <= 1e-5


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_long_signals_run_in_tiles_without_a_trace(nets, rel_l2, variant, monkeypatch):
    net = nets[variant]
    latent = torch.randn(1, 256, 61, generator=torch.Generator().manual_seed(4))
    whole, counted = net.decode(latent), []
    monkeypatch.setattr("sa3_core.networks.same_resampler.tile_rows", lambda *_: 150)
    tiles = net.decode(latent, on_tile=lambda: counted.append(1))
    assert rel_l2(tiles, whole) <= 2e-5
    assert len(counted) == net.decode_tiles(1, 61, latent.device) > 4 * 4
    counted.clear()
    net.encode(whole, on_tile=lambda: counted.append(1))
    assert len(counted) == net.encode_tiles(1, 61, latent.device)


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_bfloat16_stays_near_float32(nets, golden, rel_l2, variant, tiny_s, tiny_m):
    data = golden(f"{variant}/same")
    half = load_tiny(tiny_s if variant == "tiny-s" else tiny_m).to(torch.bfloat16)
    latent = half.encode(data["input_audio"][None].bfloat16())
    audio = half.decode(data["latents"].bfloat16())
    assert latent.dtype == audio.dtype == torch.float32
    assert rel_l2(latent, data["latents_encoded"]) < 5e-2
    assert rel_l2(kept_frames(audio, data), data["audio"]) < 7e-2


def test_noise_is_drawn_once_and_cut_by_latents(nets):
    config = nets["tiny-s"].config
    noise = draw_decoder_noise(5, (1, 256, 7), config)
    assert noise.latent.shape == (1, 256, 7)
    assert noise.tokens.shape == (1, 8, 16, config.decoder.width)  # on the grid of 2
    part = noise.slice(4, 7)
    assert torch.equal(part.latent, noise.latent[..., 4:])
    assert torch.equal(part.tokens, noise.tokens[:, 4:])
    assert torch.equal(noise.slice(2, 6).tokens, noise.tokens[:, 2:6])
    large = draw_decoder_noise(5, (1, 256, 7), nets["tiny-m"].config)
    assert isinstance(large, DecoderNoise)
    assert large.tokens is None
