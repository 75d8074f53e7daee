"""VAE: the SAME autoencoder in the shape that stock audio nodes expect.

Differences from ComfyUI's own SA3 VAE: sources are padded at the end instead of cropped around
the centre, mono is doubled instead of crashing, and long signals need memory linear in length.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from torch import Tensor

from ....sa3_core.audio.waveform import prepare_source
from ....sa3_core.checkpoints.load import load_same
from ....sa3_core.checkpoints.reader import open_checkpoint
from ....sa3_core.checks import MAX_AUDIO_BYTES, check_size
from ....sa3_core.codec.autoencode import decode_items, frames_needed
from ....sa3_core.codec.chunking import encode_chunked
from ....sa3_core.codec.memory import auto_chunk, decode_memory, encode_memory
from ....sa3_core.errors import InputError
from ....sa3_core.files.published import DTYPES
from ....sa3_core.geometry import (
    HOP,
    LATENT_CHANNELS,
    SAMPLE_RATE,
    frames_covering,
    seconds_of_frames,
)
from ....sa3_core.networks.same import SAMEAutoencoder
from ....sa3_core.registry import AUTO
from ..host.folders import read_tensors
from ..host.ops import faster_on_cpu
from ..host.running import chunk_reporter, intermediate, loaded, make_patcher

OnChunk = Callable[[int, int], None]


class SA3VAE(comfy.sd.VAE):
    """SAME behind comfy.sd.VAE's methods; `encode_audio` and `decode_latent` are our own."""

    def __init__(self, patcher: Any, dtype: torch.dtype) -> None:
        # VAE.__init__ would try to recognise a state dict; the attributes below are what nodes use.
        self.first_stage_model: SAMEAutoencoder = patcher.model
        self.patcher = patcher
        self.device = patcher.load_device
        self.output_device = mm.intermediate_device()
        self.vae_dtype = dtype
        self.working_dtypes = [dtype]
        self.disable_offload = False
        self.size = None
        self.audio_sample_rate = SAMPLE_RATE
        self.audio_sample_rate_output = SAMPLE_RATE
        self.latent_channels = LATENT_CHANNELS
        self.latent_dim = 1
        self.output_channels = 2
        self.downscale_ratio = self.upscale_ratio = HOP
        self.upscale_index_formula = self.downscale_index_formula = None
        self.extra_1d_channel = None
        self.crop_input = False
        self.not_video = False
        self.handles_tiling = True
        self.format_encoded = None
        self.pad_channel_value = "replicate"
        self.process_input = self.process_output = lambda audio: audio
        self.memory_used_encode = lambda shape, dtype: encode_memory(
            self.config, frames_covering(shape[-1]), None, dtype, self.device
        )
        self.memory_used_decode = lambda shape, dtype: decode_memory(
            self.config, shape[-1], None, dtype, self.device
        )

    @property
    def config(self) -> Any:
        """The autoencoder's sizes."""
        return self.first_stage_model.config

    def encode_audio(
        self, audio: Tensor, chunk: int | None = None, on_chunk: OnChunk | None = None
    ) -> Tensor:
        """Encode [B, 2, N] at 44.1 kHz to [B, 256, ceil(N / 4096)], item by item.

        Args:
            audio: float, any length from one sample; padded with zeros at the end.
            chunk: latents per chunk, None = whole where it fits in free memory.
            on_chunk: progress.
        """
        frames = frames_covering(audio.shape[-1])
        chunk = chunk or self._auto(frames, encode_memory)
        needed = encode_memory(self.config, frames, chunk, self.vae_dtype, self.device)
        with loaded(self.patcher, needed) as net:
            items = [
                encode_chunked(net, self._ready(item), chunk, on_chunk=on_chunk)
                for item in audio.split(1)
            ]
        return intermediate(torch.cat([item.float().cpu() for item in items]))

    def decode_latent(
        self,
        latent: Tensor,
        chunk: int | None = None,
        noise_seed: int | None = None,
        on_chunk: OnChunk | None = None,
        seconds: Sequence[float] | None = None,
    ) -> Tensor:
        """Decode [B, 256, T] to [B, 2, 4096 T] at 44.1 kHz, item by item.

        Args:
            latent: any float dtype.
            chunk: latents per chunk, None = whole where it fits in free memory.
            noise_seed: seed of the decoder's random terms, None = off.
            on_chunk: progress.
            seconds: duration of each item: only what these samples depend on is decoded, the
                rest of the result is silence. None = everything.
        """
        if latent.ndim != 3 or latent.shape[1] != LATENT_CHANNELS:
            raise InputError(
                f"The latent has shape {tuple(latent.shape)}; SAME decodes [batch, "
                f"{LATENT_CHANNELS}, frames]. Is it from another model?"
            )
        frames, net = latent.shape[-1], self.first_stage_model
        lengths = seconds or [seconds_of_frames(frames)] * latent.shape[0]
        count = latent.shape[0]
        check_size(
            f"{count} decoded item{'' if count == 1 else 's'} of up to {max(lengths):g} s",
            8 * count * frames * HOP,
            MAX_AUDIO_BYTES,
        )
        longest = max(frames_needed(net, length, frames) for length in lengths)
        chunk = chunk or self._auto(longest, decode_memory)
        memory = decode_memory(self.config, longest, chunk, self.vae_dtype, self.device)
        with loaded(self.patcher, memory):
            items = list(
                decode_items(
                    net,
                    latent,
                    lengths,
                    chunk,
                    noise_seed,
                    device=self.device,
                    dtype=self.vae_dtype,
                    on_chunk=on_chunk and (lambda item, done, total: on_chunk(done, total)),
                )
            )
        return intermediate(_joined(items, frames * HOP))

    def encode(self, pixel_samples: Tensor, *_ignored: Any, **_video: Any) -> Tensor:
        """Stock VAEEncodeAudio: [B, N, A] with 1 or 2 channels -> [B, 256, ceil(N / 4096)]."""
        return self.encode_audio(
            prepare_source(pixel_samples.movedim(-1, 1), SAMPLE_RATE), on_chunk=chunk_reporter()
        )

    def decode(self, samples_in: Tensor, vae_options: Any = None) -> Tensor:
        """Stock VAEDecodeAudio: [B, 256, T] -> [B, 4096 T, 2]."""
        return self.decode_latent(samples_in, on_chunk=chunk_reporter()).movedim(1, -1)

    def decode_tiled(
        self, samples: Tensor, tile_x: int | None = None, *_ignored: Any, **_tiles: Any
    ) -> Tensor:
        """Stock tiled decode: `tile_x` is the chunk length; the result equals `decode`."""
        out = self.decode_latent(samples, tile_x, on_chunk=chunk_reporter())
        return out.movedim(1, -1)

    def encode_tiled(
        self, pixel_samples: Tensor, tile_x: int | None = None, *_ignored: Any, **_tiles: Any
    ) -> Tensor:
        """Stock tiled encode: `tile_x` audio samples per chunk; the result equals `encode`."""
        chunk = None if tile_x is None else max(1, tile_x // HOP)
        audio = prepare_source(pixel_samples.movedim(-1, 1), SAMPLE_RATE)
        return self.encode_audio(audio, chunk, chunk_reporter())

    def _ready(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.vae_dtype)

    def _auto(self, frames: int, memory: Callable[..., float]) -> int | None:
        # The patcher also counts what the host would evict for it.
        free = self.patcher.get_free_memory(self.device)
        return auto_chunk(self.config, frames, free, self.vae_dtype, self.device, memory)


def _joined(items: list[Tensor], samples: int) -> Tensor:
    """Items [1, 2, n] as one batch [B, 2, samples], each followed by silence; empties the list.

    A single complete item is not copied, and of several only one is held twice at a time.
    """
    if len(items) == 1 and items[0].shape[-1] == samples:
        return items.pop()
    out = torch.empty(len(items), 2, samples)
    for row in out:
        item = items.pop(0)[0]
        row[:, : item.shape[-1]] = item
        row[:, item.shape[-1] :] = 0
    return out


def load_vae(path: str, precision: str = AUTO, disable_dynamic: bool = False) -> SA3VAE:
    """Load SAME, standalone or out of a full checkpoint (only its tensors are read).

    Args:
        path: model folder or .safetensors file.
        precision: auto, fp32, bf16 or fp16. auto computes in float32 (half precision leaves a
            noise floor that can be heard), unless the host was started with a --*-vae flag.
        disable_dynamic: asked for by the host when it needs a classic patcher.
    """
    device = mm.vae_device()
    checkpoint = open_checkpoint(Path(path), need=("same",), read=read_tensors())
    weight, compute = _dtypes(checkpoint.dtypes["same"], precision, device)
    net = load_same(checkpoint, weight, faster_on_cpu(comfy.ops.manual_cast))
    mm.archive_model_dtypes(net)
    patcher = make_patcher(net, device, mm.vae_offload_device(), classic=disable_dynamic)
    patcher.cached_patcher_init = (_load_patcher, (path, precision))
    return SA3VAE(patcher, compute)


def _dtypes(
    stored: torch.dtype, precision: str, device: torch.device
) -> tuple[torch.dtype, torch.dtype]:
    """Dtype of the weights and of the computation. A CPU always computes in float32."""
    on_cpu = device.type == "cpu"
    chosen = DTYPES.get(precision)
    if chosen is not None:
        return chosen, torch.float32 if on_cpu else chosen
    compute = mm.vae_dtype(device, [torch.float32])
    if on_cpu:
        return torch.float32, torch.float32
    # On a card weights stay as small as the file's and are cast layer by layer.
    return (stored if compute == torch.float32 else compute), compute


def _load_patcher(path: str, precision: str, disable_dynamic: bool = False) -> Any:
    return load_vae(path, precision, disable_dynamic).patcher


def require_same(vae: Any, node: str) -> SA3VAE:
    """The SA3VAE behind a VAE socket.

    Raises:
        InputError: another VAE.
    """
    if isinstance(vae, SA3VAE):
        return vae
    raise InputError(
        f"{node} needs a VAE from Load SA3 Model or Load SAME; this one is a "
        f"{type(getattr(vae, 'first_stage_model', vae)).__name__}."
    )
