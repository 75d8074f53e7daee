"""What a worker has to know: everything about a job but its rows."""

from argparse import Namespace as Values
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..audio.formats import AudioFormat
from ..audio.levels import Levels
from ..registry import AUTO


@dataclass(frozen=True)
class ModelFiles:
    """Where the nets of one model lie; None = in the model itself."""

    model: Path
    text_encoder: Path | None = None
    autoencoder: Path | None = None


@dataclass(frozen=True)
class Computing:
    """How to compute.

    Attributes:
        objective, dtype, storage: as for `load_pipeline`.
        device: name of a torch device.
        chunk: latent frames per chunk of the autoencoder; None = the whole.
        noise_seed: of the decoder's random terms; None = off.
        threads: of a worker; None = torch's own number.
        batch: rows at once; None = as many as memory allows.
    """

    objective: str = AUTO
    dtype: torch.dtype | None = None
    storage: str | None = None
    device: str = "cpu"
    chunk: int | None = None
    noise_seed: int | None = None
    threads: int | None = None
    batch: int | None = 1


@dataclass(frozen=True)
class JobSpec:
    """A job.

    Attributes:
        defaults: values of what rows leave open, under the names of the flags.
        folder: of the manifest.
        out: folder of the results.
        models: files by the names that rows use.
        loras: files by the names that rows use.
        audio_format: of the results.
        levels: loudness and peaks of the results.
        computing: how to compute.
        shards: results are packed into tars.
    """

    defaults: Values
    folder: Path
    out: Path
    models: Mapping[str, ModelFiles]
    loras: Mapping[str, Path]
    audio_format: AudioFormat
    levels: Levels
    computing: Computing = Computing()
    shards: bool = False

    def on(self, device: str) -> "JobSpec":
        """The same job on another device."""
        return replace(self, computing=replace(self.computing, device=device))

    def settled(self) -> dict[str, Any]:
        """What a row's sound depends on beside the row: not where or how fast it is made."""
        made = ("objective", "dtype", "storage", "noise_seed")
        return {
            "defaults": vars(self.defaults),
            "models": {name: str(files) for name, files in self.models.items()},
            "loras": {name: str(path) for name, path in self.loras.items()},
            "format": str(self.audio_format),
            "levels": str(self.levels),
            **{name: str(getattr(self.computing, name)) for name in made},
        }
