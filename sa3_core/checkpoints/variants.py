"""The published models: what their files cannot tell, and the names people know them by."""

import re
from dataclasses import dataclass
from typing import Literal

from ..networks.config import Objective

Domain = Literal["music", "sound effects", "music and sound effects", "any audio"]

_SMALL_SAMPLES = 5_292_032
_MEDIUM_SAMPLES = 16_777_216


@dataclass(frozen=True)
class Variant:
    """One published model.

    Attributes:
        name: what users type and see, also the folder name on disk.
        repo: Hugging Face repository of the original weights.
        max_seconds: longest piece; None for an autoencoder alone.
        sample_size: longest signal in samples, headroom included; None for an autoencoder alone.
        objective: what the network was trained for; None for an autoencoder alone.
        domain: what it was trained on.
        autoencoder: the SAME autoencoder it uses or is.
        generative: False for an autoencoder alone.
    """

    name: str
    repo: str
    max_seconds: float | None
    sample_size: int | None
    objective: Objective | None
    domain: Domain
    autoencoder: Literal["same-s", "same-l"]
    generative: bool

    @property
    def gated(self) -> bool:
        """Whether the original repository wants a login that has accepted its licence."""
        return self.objective == "rf_denoiser"


def _small(name: str, objective: Objective, domain: Domain) -> Variant:
    repo = f"stabilityai/stable-audio-3-{name}"
    return Variant(name, repo, 120.0, _SMALL_SAMPLES, objective, domain, "same-s", True)


def _medium(name: str, objective: Objective) -> Variant:
    repo = f"stabilityai/stable-audio-3-{name}"
    domain: Domain = "music and sound effects"
    return Variant(name, repo, 380.0, _MEDIUM_SAMPLES, objective, domain, "same-l", True)


def _same(name: Literal["same-s", "same-l"]) -> Variant:
    repo = f"stabilityai/{name.upper()}"
    return Variant(name, repo, None, None, None, "any audio", name, False)


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        _small("small-music", "rf_denoiser", "music"),
        _small("small-sfx", "rf_denoiser", "sound effects"),
        _medium("medium", "rf_denoiser"),
        _small("small-music-base", "rectified_flow", "music"),
        _small("small-sfx-base", "rectified_flow", "sound effects"),
        _medium("medium-base", "rectified_flow"),
        _same("same-s"),
        _same("same-l"),
    )
}

# Longest names first, so that medium_base is not taken for medium.
_BY_LENGTH = sorted(VARIANTS.values(), key=lambda variant: -len(variant.name.split("-")))


def variant_of(name: str) -> Variant | None:
    """Recognise a published name inside a file or folder name.

    `checkpoints/stable_audio_3_medium_base.safetensors` is medium-base,
    `stable-audio-3-small-music/model.safetensors` is small-music. The last part of a path that
    holds a published name decides; words must match whole.

    Args:
        name: a plain name or a path, with any separator between words.
    """
    for part in reversed(re.split(r"[/\\]", name)):
        words = [word for word in re.split(r"[^a-z0-9]+", part.lower()) if word]
        for variant in _BY_LENGTH:
            wanted = variant.name.split("-")
            spans = range(len(words) - len(wanted) + 1)
            if any(words[i : i + len(wanted)] == wanted for i in spans):
                return variant
    return None
