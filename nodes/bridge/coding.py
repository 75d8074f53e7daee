"""Latents and audio: empty latents, encoding, decoding and trimming."""

from collections.abc import Sequence
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor

from ...sa3_core.audio import fit_length, prepare_source
from ...sa3_core.errors import AudioError, InputError
from ...sa3_core.geometry import (
    HOP,
    LATENT_CHANNELS,
    SAMPLE_RATE,
    check_seconds,
    samples_of,
    seconds_of_samples,
    target_frames,
)
from ...sa3_core.paste import Source, paste_back
from .runtime import chunk_reporter
from .vae import SA3VAE, require_same
from .values import Audio, Latent, audio_value, latent_samples, latent_seconds, latent_value

NO_LIMIT = 100_000.0
_UNCAPPED = int(NO_LIMIT * SAMPLE_RATE) + 10 * SAMPLE_RATE


def aligned_frames(seconds: Sequence[float]) -> int:
    """Latent length for a batch, headroom included; the sampler trims to the variant's limit."""
    return max(target_frames(s, _UNCAPPED) for s in seconds)


def empty_latent(seconds: Sequence[float], batch_size: int) -> Latent:
    """Zeros for every duration, `batch_size` items each."""
    checked = [check_seconds(s, NO_LIMIT) for s in seconds for _ in range(batch_size)]
    frames = aligned_frames(checked)
    zeros = torch.zeros(len(checked), LATENT_CHANNELS, frames, device=mm.intermediate_device())
    return latent_value(zeros, checked)


def source_of(audio: Any, node: str) -> tuple[Tensor, int]:
    """The AUDIO's waveform [B, A, N] and sample rate.

    Raises:
        AudioError: no audio (a video without sound).
    """
    if audio is None:
        raise AudioError(f"{node} got no audio; does the source file have an audio track?")
    return audio["waveform"], int(audio["sample_rate"])


def encode(vae: Any, audio: Any, seconds: float) -> Latent:
    """Encode audio at an exact duration; `sa3_source` rides along by reference."""
    same = require_same(vae, "SAME Encode")
    waveform, rate = source_of(audio, "SAME Encode")
    source = prepare_source(waveform, rate)
    duration = seconds_of_samples(source.shape[-1])
    if seconds:
        duration = check_seconds(seconds, NO_LIMIT)
    return encode_source(same, source, [duration] * source.shape[0], (waveform, rate))


def encode_source(
    vae: SA3VAE, source: Tensor, seconds: Sequence[float], original: tuple[Tensor, int]
) -> Latent:
    """Encode a prepared source [B, 2, N] cut or padded to the target length of its durations."""
    fitted = fit_length(source, aligned_frames(seconds) * HOP)
    samples = vae.encode_audio(fitted, on_chunk=chunk_reporter())
    waveform, rate = original
    rider = {"waveform": waveform, "sample_rate": rate, "regions": None}
    return latent_value(samples, seconds, sa3_source=rider)


def decode(vae: Any, latent: Latent, chunk: int | None, noise_seed: int | None) -> Audio:
    """Decode a latent; items shorter than the longest end in silence and know their length."""
    same = require_same(vae, "SAME Decode Chunked")
    samples = latent_samples(latent, "SAME Decode Chunked")
    seconds = latent_seconds(latent)
    audio = same.decode_latent(samples, chunk, noise_seed, chunk_reporter())
    if seconds is None:
        return audio_value(audio)
    lengths = [min(samples_of(s), audio.shape[-1]) for s in seconds]
    if min(lengths) < 1:
        raise InputError(f"A duration of {min(seconds):g} s leaves no sample to decode.")
    audio = audio[..., : max(lengths)]
    for item, length in zip(audio, lengths, strict=True):
        item[:, length:] = 0
    return {**audio_value(audio), "lengths": lengths}


def audio_lengths(audio: Audio) -> list[int]:
    """Samples that belong to each item of an AUDIO batch."""
    waveform = audio["waveform"]
    lengths = audio.get("lengths")
    if lengths is None or len(lengths) != waveform.shape[0]:
        return [waveform.shape[-1]] * waveform.shape[0]
    return [min(int(n), waveform.shape[-1]) for n in lengths]


def paste_source(audio: Audio, latent: Latent, crossfade: float) -> tuple[Audio, list[str]]:
    """Put the source that rides on a latent back where it was kept.

    Returns:
        The AUDIO at the source's sample rate and channels, and a sentence for the node; the AUDIO
        as it came where the latent carries no source or nothing was marked on it.
    """
    rider = latent.get("sa3_source")
    if rider is None or rider["regions"] is None:
        edited = latent.get("noise_mask") is not None
        note = "Nothing was pasted back: the latent carries no source (use Paste Back)."
        return audio, [note] if edited else []
    source = Source(rider["waveform"], rider["sample_rate"], rider["regions"])
    pasted, lengths = paste_back(audio["waveform"], source, crossfade, audio_lengths(audio))
    value = {**audio_value(pasted, rider["sample_rate"]), "lengths": lengths}
    return value, ["The source's own samples were put back outside the regions."]
