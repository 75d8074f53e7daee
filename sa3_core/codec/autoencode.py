"""Encoding and decoding on the autoencoder's own device, in memory that is there.

B batch, N audio samples, T latent frames.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..geometry import (
    HOP,
    LATENT_CHANNELS,
    effective_frames,
    frames_covering,
    samples_of,
    target_frames,
)
from ..networks.same import DecoderNoise, SAMEAutoencoder, draw_decoder_noise
from .chunking import decode_chunked, encode_chunked
from .latent_file import Latents
from .memory import auto_chunk, decode_memory, encode_memory

OnProgress = Callable[[str, int, int], None]  # stage, done, total; may raise to stop


@torch.inference_mode()
def encode(
    autoencoder: SAMEAutoencoder,
    audio: Tensor,
    chunk: int | None = None,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> Tensor:
    """Audio [B, 2, N] at 44.1 kHz -> latent [B, 256, ceil(N / 4096)] float32 on the CPU."""
    place = next(autoencoder.parameters())
    if chunk is None and place.is_cuda:
        free, frames = torch.cuda.mem_get_info(place.device)[0], frames_covering(audio.shape[-1])
        chunk = auto_chunk(
            autoencoder.config, frames, free, place.dtype, place.device, encode_memory
        )
    return encode_chunked(
        autoencoder,
        audio,
        chunk,
        on_chunk=lambda done, total: on_progress("encode", done, total),
        device=place.device,
        dtype=place.dtype,
    ).cpu()


@torch.inference_mode()
def decode(
    autoencoder: SAMEAutoencoder,
    latents: Latents,
    chunk: int | None = None,
    noise_seed: int | None = None,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> list[Tensor]:
    """Decode each item, cut to its own duration.

    Args:
        autoencoder: anywhere, in any dtype.
        latents: what to decode. Of the headroom only as much is decoded as the piece depends on.
        chunk: as for `generate`.
        noise_seed: turns the decoder's random terms on; item b draws them from this seed + b.
        on_progress: told (stage, done, total).

    Returns:
        B tensors [2, N_b] float32 on the CPU.
    """
    place, pieces = next(autoencoder.parameters()), []
    batch, _, total = latents.frames.shape
    if chunk is None and place.is_cuda:
        free = torch.cuda.mem_get_info(place.device)[0]
        chunk = auto_chunk(
            autoencoder.config, total, free, place.dtype, place.device, decode_memory
        )
    for item, seconds in enumerate(latents.seconds):
        stage = "decode" if batch == 1 else f"decode {item + 1}/{batch}"
        needed = frames_needed(autoencoder, seconds, total)
        frames = latents.frames[item : item + 1]
        noise = None
        if noise_seed is not None:
            noise = item_noise(autoencoder, noise_seed + item, seconds, total).slice(0, needed)
        audio = decode_chunked(
            autoencoder,
            frames[..., :needed].to(place.device, place.dtype),
            chunk,
            noise=noise,
            on_chunk=lambda done, all_, stage=stage: on_progress(stage, done, all_),
            out_device="cpu",
        )
        pieces.append(audio[0, :, : samples_of(seconds)])
    return pieces


def frames_needed(autoencoder: SAMEAutoencoder, seconds: float, total: int) -> int:
    """Latent frames, of `total`, that the samples of a piece depend on."""
    piece = effective_frames(seconds)
    return min(total, piece + -piece % autoencoder.chunk_grid + autoencoder.halo)


def item_noise(autoencoder: SAMEAutoencoder, seed: int, seconds: float, total: int) -> DecoderNoise:
    """The decoder's random terms of one item, drawn at its own length: no batch changes them."""
    own = target_frames(seconds, total * HOP)
    return draw_decoder_noise(seed, (1, LATENT_CHANNELS, own), autoencoder.config)
