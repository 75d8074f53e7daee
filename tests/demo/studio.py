"""The demo model as the tests use it: prompts in, sounds out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from demo_model.maker import sounds
from sa3_core.adapters.loading import load_adapters
from sa3_core.adapters.switch import AdapterSwitch
from sa3_core.adapters.use import AdapterUse
from sa3_core.editing.edits import Edit
from sa3_core.pipeline import GenerateRequest, Generation, generate, load_pipeline
from sa3_core.sampling.settings import SampleSettings

Audio = NDArray[np.float32]
SECONDS = 4.0
_PARTS = ("negatives", "headroom", "variation")  # of a request, beside its settings
QUIETEST = -45.0  # dB; a hi-hat has -40
PROMPTS = {
    name: f"{sounds.INSTRUMENTS[name].phrase if name in sounds.INSTRUMENTS else name}"
    for name in sounds.CLASSES
} | {"synth pad": "warm synth pad, C major chord"}
"""What to ask for, by class, without its tempo."""


class Studio:
    """A loaded demo model."""

    def __init__(self, folder: Path, **loading: Any) -> None:
        self.folder = folder
        self.pipeline = load_pipeline(folder, dtype=loading.pop("dtype", torch.float32), **loading)

    def generate(
        self,
        prompts: Sequence[str],
        seconds: Sequence[float] = (SECONDS,),
        seeds: Sequence[int] = (0,),
        edit: Edit | None = None,
        lora: tuple[Path, float] | None = None,
        chunk: int | None = None,
        **settings: Any,
    ) -> Generation:
        """As the pipeline does it; lora = file and strength."""
        parts = {name: settings.pop(name) for name in _PARTS if name in settings}
        request = GenerateRequest(
            prompts, seconds=seconds, settings=SampleSettings(**settings), seeds=seeds, edit=edit
        )
        request = dataclasses.replace(request, **parts)
        if lora is None:
            return generate(self.pipeline, request, chunk)
        built = load_adapters(self.folder, [AdapterUse(lora[0], lora[1])])
        with AdapterSwitch(self.pipeline.model, built) as switch:
            return generate(self.pipeline, request, chunk, switch=switch)

    def make(self, prompts: Sequence[str], *args: Any, **more: Any) -> list[Audio]:
        """The sounds [2, samples] alone."""
        return [take.audio.numpy() for take in self.generate(prompts, *args, **more).takes]

    def many(self, prompt: str, seeds: int, seconds: float = SECONDS, **more: Any) -> list[Audio]:
        """The same prompt with seeds 100, 101, ..."""
        numbers = list(range(100, 100 + seeds))
        return self.make([prompt] * seeds, [seconds], numbers, **more)

    def whole(self, made: Generation) -> list[Audio]:
        """The sounds with the headroom behind them."""
        frames = made.latents.frames
        with torch.inference_mode():
            return list(self.pipeline.autoencoder.decode(frames).numpy())


def sounding_frames(audio: Audio) -> int:
    """Latent frames until a sound has fallen 20 dB below its level for good."""
    frames = audio.shape[1] // sounds.FRAME
    parts = np.split(audio[:, : frames * sounds.FRAME], frames, axis=1)
    loud = [place for place, part in enumerate(parts) if level(part) > level(audio) - 20]
    return loud[-1] + 1 if loud else 0


def level(audio: Audio) -> float:
    """Root mean square in dB."""
    return float(10 * np.log10(np.mean(audio.astype(np.float64) ** 2) + 1e-20))


class CheckedStudio(Studio):
    """A studio of whose takes none may be silent, clipped or not a number, whatever is asked."""

    def generate(self, prompts: Sequence[str], *args: Any, **more: Any) -> Generation:
        """As Studio; fails where a take is no sound."""
        made = super().generate(prompts, *args, **more)
        for take in made.takes:
            audio = take.audio.numpy()
            assert np.isfinite(audio).all(), prompts
            assert np.abs(audio).max() < 1, prompts
            assert level(audio) > QUIETEST, (prompts, level(audio))
        return made
