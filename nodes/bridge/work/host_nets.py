"""The host's MODEL, CLIP and VAE as the core's pieces are made with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ....sa3_core.codec.autoencode import OnProgress
from ....sa3_core.codec.latent_file import Latents
from ....sa3_core.geometry import samples_of
from ....sa3_core.pieces import warn_of_cut_prompts
from ....sa3_core.sampling.noise import Seeds
from ....sa3_core.sampling.settings import SampleSettings
from ....sa3_core.sampling.start import StartLatent
from ....sa3_core.text.conditioning import TEXT_TOKENS, TextConditioning
from ..sockets.clip import encode_prompts
from ..sockets.model import SA3BaseModel
from ..sockets.vae import SA3VAE
from .model_options import honour_options
from .sampling import run


@dataclass(frozen=True)
class HostNets:
    """What makes pieces, loaded and moved by the host's memory management.

    Attributes:
        patcher: MODEL of ours.
        clip: CLIP, ours or a stock T5Gemma.
        vae: VAE of ours.
        say: told what the node is to say of the MODEL's options.
    """

    patcher: Any
    clip: Any
    vae: SA3VAE
    say: Callable[[str], None] = lambda text: None

    @property
    def _model(self) -> SA3BaseModel:
        return self.patcher.model

    @property
    def objective(self) -> str:
        """`rf_denoiser` or `rectified_flow`."""
        return self._model.info.objective

    @property
    def sample_size(self) -> int:
        """Longest latent in samples, headroom included."""
        return self._model.info.sample_size

    def resolve(self, settings: SampleSettings) -> SampleSettings:
        """Settings without autos; options that other nodes put on the MODEL count."""
        resolved, notes = honour_options(self.patcher, settings.resolve(self.objective))
        for note in notes:
            self.say(note)
        return resolved

    def encode_prompts(self, prompts: Sequence[str], label: str) -> TextConditioning:
        """Encode texts; says which is too long, under the label."""
        text, tokenized = encode_prompts(self.clip, prompts)
        warn_of_cut_prompts(tokenized, label, TEXT_TOKENS)
        return text

    def encode(self, audio: Tensor, on_progress: OnProgress) -> Tensor:
        """[1, 2, N] at 44.1 kHz -> [1, 256, N / 4096] float32."""
        told = lambda done, total: on_progress("encode", done, total)  # noqa: E731
        return self.vae.encode_audio(audio, on_chunk=told).float().cpu()

    def sample(
        self,
        start: StartLatent,
        settings: SampleSettings,
        texts: tuple[TextConditioning, TextConditioning | None],
        seeds: Seeds,
        on_progress: OnProgress,
    ) -> Tensor:
        """Denoise to [B, 256, T] float32 on the CPU; the texts are prompts and negative prompts."""
        told = lambda step, steps, _: on_progress("sample", step + 1, steps)  # noqa: E731
        return run(self.patcher, start, settings, *texts, seeds, told)

    def decode(self, latents: Latents, on_progress: OnProgress) -> list[Tensor]:
        """B tensors [2, N_b] float32 on the CPU, each cut to its own duration."""
        made = self.vae.decode_latent(
            latents.frames,
            on_chunk=lambda done, total: on_progress("decode", done, total),
            seconds=latents.seconds,
        )
        return [
            audio[:, : samples_of(seconds)].float().cpu()
            for audio, seconds in zip(made, latents.seconds, strict=True)
        ]
