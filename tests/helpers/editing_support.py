"""Tiny models loaded through the bridge, and sources to edit."""

from __future__ import annotations

import importlib
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

RATE = 44100
FRAME = 4096


@dataclass(frozen=True)
class Loaded:
    """MODEL, CLIP and VAE of a tiny checkpoint, and the pack they belong to."""

    pack: types.ModuleType
    model: Any
    clip: Any
    vae: Any

    def module(self, name: str) -> types.ModuleType:
        """A module of the pack, such as "nodes.editing"."""
        return importlib.import_module(f"{self.pack.__name__}.{name}")

    def prompt(self, *texts: str) -> list[Any]:
        """CONDITIONING of one prompt or several."""
        text = self.module("nodes.text").SA3TextEncode
        return text.execute(self.clip, "\n".join(texts), len(texts) > 1).args[0]

    def sample(self, latent: dict[str, Any], seed: int = 1, **settings: Any) -> dict[str, Any]:
        """SA3 Sampler in few steps."""
        node = self.module("nodes.sampling").SA3Sampler
        positive = settings.pop("positive", None) or self.prompt("warm pad")
        return node.execute(
            model=self.model,
            positive=positive,
            latent=latent,
            seed=seed,
            **{"steps": 2, **settings},
        ).args[0]

    def decode(self, latent: dict[str, Any], **settings: Any) -> dict[str, Any]:
        """SAME Decode Chunked."""
        return (
            self.module("nodes.latent").SA3SAMEDecode.execute(latent, self.vae, **settings).args[0]
        )

    def encode(self, audio: dict[str, Any], seconds: float = 0.0) -> dict[str, Any]:
        """SAME Encode."""
        return self.module("nodes.latent").SA3SAMEEncode.execute(audio, self.vae, seconds).args[0]


def load(pack: types.ModuleType, folder: Path) -> Loaded:
    """Load a tiny checkpoint."""
    bridge = f"{pack.__name__}.nodes.bridge"
    model = importlib.import_module(f"{bridge}.sockets.model")
    vae = importlib.import_module(f"{bridge}.sockets.vae")
    clip = importlib.import_module(f"{bridge}.sockets.clip")
    return Loaded(
        pack,
        model.load_patcher(str(folder), folder.name, "fp32", "auto"),
        clip.load_clip(str(folder / "t5gemma-b-b-ul2"), "fp32"),
        vae.load_vae(str(folder), "fp32"),
    )


def music(seconds: float, rate: int = RATE, channels: int = 2, batch: int = 1) -> dict[str, Any]:
    """An AUDIO of quiet chords with a little noise, each item another."""
    samples = round(seconds * rate)
    return {
        "waveform": torch.stack([_chord(samples, rate, channels, b) for b in range(batch)]),
        "sample_rate": rate,
    }


def _chord(samples: int, rate: int, channels: int, item: int) -> Tensor:
    time = torch.arange(samples, dtype=torch.float64) / rate
    base = 110.0 * 2 ** (item / 4)
    rows = [
        sum(
            torch.sin(2 * torch.pi * base * ratio * time + channel * ratio) * 0.1
            for ratio in (1.0, 1.26, 1.5)
        )
        for channel in range(channels)
    ]
    noise = torch.randn(channels, samples, generator=torch.Generator().manual_seed(item)) * 0.01
    return torch.stack(rows).float() + noise


def seam_steps(wave: Tensor, at: int, near: int = 1024) -> tuple[float, float]:
    """Largest sample-to-sample step at a seam, and the largest one near it on either side."""
    steps = wave.diff(dim=-1).abs().flatten(0, -2).amax(dim=0)
    first, last = max(at - near, 0), at + near
    beside = torch.cat([steps[first : max(at - 3, 0)], steps[at + 2 : last]])
    return float(steps[max(at - 3, 0) : at + 2].max()), float(beside.max())


def seam_step(waveform: Tensor, around: int = 64) -> tuple[float, float]:
    """The step from a loop's last sample to its first, and the largest of the steps next to it.

    Args:
        waveform: [..., N], N above 2.
        around: steps on either side to compare with.

    Returns:
        Both as the largest over channels. A loop is seamless when the first is not above the
        second.
    """
    around = min(around, waveform.shape[-1] - 1)
    turned = torch.cat([waveform[..., -around - 1 :], waveform[..., : around + 1]], dim=-1)
    steps = turned.diff(dim=-1).abs().reshape(-1, 2 * around + 1).amax(dim=0)
    beside = torch.cat([steps[:around], steps[around + 1 :]])
    return float(steps[around]), float(beside.max())
