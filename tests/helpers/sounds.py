"""Small sounds for tests of audio files, and the tags of what was written."""

import json
from pathlib import Path
from typing import Literal

import av
import torch
from torch import Tensor

from sa3_core.audio.carried import BOX, CHUNK


def noise(*shape: int, level: float = 0.3, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * level


def carried_tags(data: bytes) -> dict[str, str]:
    """What a WAV or M4A of ours carries behind its sound, found by the container's own rules."""
    order: Literal["little", "big"] = "little" if data[:4] == b"RIFF" else "big"
    place, name = (12, CHUNK) if order == "little" else (0, b"uuid" + BOX.bytes)
    if order == "little":
        assert int.from_bytes(data[4:8], "little") == len(data) - 8
    while place < len(data):
        head = data[place : place + 8]
        if order == "little":
            length = int.from_bytes(head[4:], order)
            found, body, place = head[:4], data[place + 8 :][:length], place + 8 + length
            place += length % 2
        else:
            length = int.from_bytes(head[:4], order)
            found, body = data[place + 4 : place + 24], data[place + 24 : place + length]
            place += length
        if found == name:
            return json.loads(body)
    assert place == len(data)
    return {}


def sine(samples: int, rate: int, channels: int = 2) -> Tensor:
    time = torch.arange(samples, dtype=torch.float64) / rate
    tones = [torch.sin(2 * torch.pi * 220 * (i + 2) * time) for i in range(channels)]
    return (0.5 * torch.stack(tones)).float()


def read_tags(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        found = {**container.metadata, **container.streams.audio[0].metadata}
    return {name.lower(): text for name, text in found.items()}
