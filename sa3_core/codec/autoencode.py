"""Encoding and decoding on the autoencoder's own device, in memory that is there.

B batch, N audio samples, T latent frames.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import overload

import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio.waveform import prepare_source
from ..checks import broadcast, check_seed, check_sound
from ..errors import InputError
from ..geometry import (
    HOP,
    LATENT_CHANNELS,
    SAMPLE_RATE,
    effective_frames,
    frames_covering,
    samples_of,
    seconds_of_samples,
    target_frames,
)
from ..networks.same import DecoderNoise, SAMEAutoencoder, draw_decoder_noise
from .chunking import decode_chunked, encode_chunked
from .latent_file import Latents
from .memory import auto_chunk, decode_memory, encode_memory

OnProgress = Callable[[str, int, int], None]  # stage, done, total; may raise to stop
OnItemChunk = Callable[[int, int, int], None]  # item, done, total; may raise to stop


@overload
def encode(
    autoencoder: SAMEAutoencoder,
    audio: Tensor,
    chunk: int | None = None,
    on_progress: OnProgress = ...,
    sample_rate: int = SAMPLE_RATE,
) -> Tensor: ...


@overload
def encode(
    autoencoder: SAMEAutoencoder,
    audio: Sequence[Tensor],
    chunk: int | None = None,
    on_progress: OnProgress = ...,
    sample_rate: int | Sequence[int] = SAMPLE_RATE,
) -> Latents: ...


@torch.inference_mode()
def encode(
    autoencoder: SAMEAutoencoder,
    audio: Tensor | Sequence[Tensor],
    chunk: int | None = None,
    on_progress: OnProgress = lambda stage, done, total: None,
    sample_rate: int | Sequence[int] = SAMPLE_RATE,
) -> Tensor | Latents:
    """Encode a batch, or clips of any lengths and rates.

    Args:
        autoencoder: anywhere, in any dtype.
        audio: [B, A, N], or clips [A, N] one by one, each encoded as it would be alone.
        chunk: as for `generate`.
        on_progress: told (stage, done, total).
        sample_rate: Hz of the audio; of a list one for all clips, or one each.

    Returns:
        Latents [B, 256, ceil(N / 4096)] float32 on the CPU; of a list `Latents` with every clip's
        own duration, and zeros behind those that are shorter than the longest.

    Raises:
        AudioError: a clip cannot be used.
        InputError: no clip, or not one rate for each.
    """
    if isinstance(audio, Tensor):
        rates = [sample_rate] if isinstance(sample_rate, int) else list(sample_rate)
        rate = rates[broadcast(len(rates), 1, "sample rates")[0]]
        batch = audio if rate == SAMPLE_RATE else prepare_source(audio, rate)
        return _encode_batch(autoencoder, batch, chunk, on_progress)
    if not audio:
        raise InputError("There is no clip to encode.")
    rates = [sample_rate] if isinstance(sample_rate, int) else list(sample_rate)
    chosen = [rates[index] for index in broadcast(len(rates), len(audio), "sample rates")]
    frames, seconds = [], []
    for number, (clip, rate) in enumerate(zip(audio, chosen, strict=True)):
        if clip.ndim != 2:
            raise InputError(f"Clip {number + 1} has shape {list(clip.shape)}; give [A, N] each.")
        source = prepare_source(clip, rate)
        stage = "encode" if len(audio) == 1 else f"encode {number + 1}/{len(audio)}"
        named = partial(_renamed, on_progress, stage)
        frames.append(_encode_batch(autoencoder, source, chunk, named)[0])
        seconds.append(seconds_of_samples(source.shape[-1]))
    longest = max(item.shape[-1] for item in frames)
    padded = [F.pad(item, (0, longest - item.shape[-1])) for item in frames]
    return Latents(torch.stack(padded), tuple(seconds))


def _renamed(on_progress: OnProgress, name: str, stage: str, done: int, total: int) -> None:
    on_progress(name, done, total)


def _encode_batch(
    autoencoder: SAMEAutoencoder, audio: Tensor, chunk: int | None, on_progress: OnProgress
) -> Tensor:
    """Audio [B, 2, N] at 44.1 kHz -> latent [B, 256, ceil(N / 4096)] float32 on the CPU."""
    autoencoder.check_files()
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
    place, batch = next(autoencoder.parameters()), len(latents.seconds)
    total = latents.frames.shape[-1]
    if chunk is None and place.is_cuda:
        free = torch.cuda.mem_get_info(place.device)[0]
        chunk = auto_chunk(
            autoencoder.config, total, free, place.dtype, place.device, decode_memory
        )

    def report(item: int, done: int, all_: int) -> None:
        on_progress("decode" if batch == 1 else f"decode {item + 1}/{batch}", done, all_)

    items = decode_items(
        autoencoder,
        latents.frames,
        latents.seconds,
        chunk,
        noise_seed,
        device=place.device,
        dtype=place.dtype,
        on_chunk=report,
    )
    pairs = zip(items, latents.seconds, strict=True)
    return [audio[0, :, : samples_of(seconds)] for audio, seconds in pairs]


def decode_items(
    autoencoder: SAMEAutoencoder,
    frames: Tensor,
    seconds: Sequence[float],
    chunk: int | None,
    noise_seed: int | None,
    *,
    device: torch.device,
    dtype: torch.dtype,
    on_chunk: OnItemChunk | None = None,
) -> Iterator[Tensor]:
    """Decode a batch item by item, of each only what its own duration depends on.

    Args:
        autoencoder: its layers may move their weights to the device themselves.
        frames: [B, 256, T].
        seconds: B durations.
        chunk: latents per chunk, None = whole.
        noise_seed: seed of the decoder's random terms of the first item, counted up; None = off.
        device, dtype: where and in what precision to compute.
        on_chunk: told (item, done, total) after every piece of work.

    Yields:
        [1, 2, 4096 n_b] float32 on the CPU, n_b as `frames_needed` says.
    """
    check_sound(frames, "The latent to decode", _UNSOUND_LATENT)
    if noise_seed is not None:
        check_seed(noise_seed)
    autoencoder.check_files()
    total = frames.shape[-1]
    for item, length in enumerate(seconds):
        needed = frames_needed(autoencoder, length, total)
        noise = None
        if noise_seed is not None:
            noise = item_noise(autoencoder, noise_seed + item, length, total).slice(0, needed)
        audio = decode_chunked(
            autoencoder,
            frames[item : item + 1, :, :needed].to(device, dtype),
            chunk,
            noise=noise,
            on_chunk=on_chunk and partial(on_chunk, item),
            out_device="cpu",
        )
        check_sound(audio, f"The audio decoded from item {item + 1}", _unsound_net(dtype))
        yield audio


_UNSOUND_CODE = "Load the autoencoder in float32, and check the loudness of the audio."
_UNSOUND_LATENT = (
    "Check the step that made it: a model in float16, or a LoRA or cfg that is too strong."
)


def _unsound_net(dtype: torch.dtype) -> str:
    return (
        f"The autoencoder computed in {str(dtype).removeprefix('torch.')}; load it in float32, and "
        "check the loudness of what it was given."
    )


def encode_items(
    encode_one: Callable[[Tensor, int], Tensor], sources: Sequence[Tensor], lengths: Sequence[int]
) -> Tensor:
    """Encode every item as it would be alone, each source once for every length it is needed in.

    Args:
        encode_one: (source, frames) -> [1, 256, frames], the source cut or padded to that length.
        sources: one for each item in turn, or one for all.
        lengths: latent frames of each item.

    Returns:
        [B, 256, T] for the longest item, zeros after the others.
    """
    encoded: dict[tuple[int, int], Tensor] = {}
    rows = []
    for item, frames in enumerate(lengths):
        key = item % len(sources), frames
        if key not in encoded:
            encoded[key] = encode_one(sources[key[0]], frames)
            check_sound(encoded[key], "The latent encoded from the audio", _UNSOUND_CODE)
        rows.append(F.pad(encoded[key], (0, max(lengths) - frames)))
    return torch.cat(rows)


def frames_needed(autoencoder: SAMEAutoencoder, seconds: float, total: int) -> int:
    """Latent frames, of `total`, that the samples of a piece depend on."""
    piece = effective_frames(seconds)
    return min(total, piece + -piece % autoencoder.chunk_grid + autoencoder.halo)


def item_noise(autoencoder: SAMEAutoencoder, seed: int, seconds: float, total: int) -> DecoderNoise:
    """The decoder's random terms of one item, drawn at its own length: no batch changes them."""
    own = target_frames(seconds, total * HOP)
    return draw_decoder_noise(seed, (1, LATENT_CHANNELS, own), autoencoder.config)
