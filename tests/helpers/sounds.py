"""Small sounds for tests of audio files, and the tags of what was written."""

from pathlib import Path

import av
import torch
from torch import Tensor


def noise(*shape: int, level: float = 0.3, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * level


def sine(samples: int, rate: int, channels: int = 2) -> Tensor:
    time = torch.arange(samples, dtype=torch.float64) / rate
    tones = [torch.sin(2 * torch.pi * 220 * (i + 2) * time) for i in range(channels)]
    return (0.5 * torch.stack(tones)).float()


def read_tags(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        found = {**container.metadata, **container.streams.audio[0].metadata}
    return {name.lower(): text for name, text in found.items()}
