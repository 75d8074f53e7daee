"""What a worker has to know: everything about a job but its rows."""

from argparse import Namespace as Values
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch

from ..audio.formats import AudioFormat
from ..audio.levels import Levels
from ..checkpoints.library import Kind, Library
from ..registry import AUTO
from .buckets import LARGEST, Bucket, bucket_rows
from .fields import COLUMNS, GENERATE, Columns
from .marks import content_mark
from .outcome import Results
from .row import Row

_MARKS_KEPT = 10_000  # of sources that several rows share


@dataclass(frozen=True)
class ModelFiles:
    """Where the nets of one model lie; None = in the model itself."""

    model: Path
    text_encoder: Path | None = None
    autoencoder: Path | None = None

    def marks(self) -> list[str]:
        """What the files hold."""
        parts: dict[Kind, Path | None] = {
            "model": self.model,
            "text_encoder": self.text_encoder,
            "autoencoder": self.autoencoder,
        }
        return [
            content_mark(file, whole=False)
            for kind, path in parts.items()
            if path is not None
            for file in Library({}).files_of(path, kind)
        ]


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
        work: a name of COLUMNS: what rows ask for.
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
    work: str = GENERATE

    def on(self, device: str) -> "JobSpec":
        """The same job on another device."""
        return replace(self, computing=replace(self.computing, device=device))

    @property
    def columns(self) -> Columns:
        """What cells set."""
        return COLUMNS[self.work]

    def values(self, row: Row) -> Values:
        """A row's values."""
        return row.values(self.defaults, self.folder, self.columns)

    def digest(self, row: Row) -> str:
        """A hash of all that a row's sound depends on, files that it reads included."""
        values = self.values(row)
        read = (getattr(values, name) for name in self.columns.sources)
        marks = [source_mark(path) for path in read if path is not None]
        return row.digest(self._settled, marks)

    @cached_property
    def _settled(self) -> dict[str, Any]:
        """What a row's sound depends on beside the row: not where or how fast it is made."""
        made = ("objective", "dtype", "storage", "noise_seed")
        marked = {name: content_mark(path, whole=False) for name, path in self.loras.items()}
        return {
            "defaults": vars(self.defaults),
            "models": {name: files.marks() for name, files in self.models.items()},
            "loras": marked,
            "format": str(self.audio_format),
            "levels": str(self.levels),
            **{name: str(getattr(self.computing, name)) for name in made},
        }

    def notes(self) -> dict[str, Any]:
        """What every line of the results says beside the outcome."""
        return {"licence": _licence(self.models.values())}

    def buckets(self, rows: Sequence[Row]) -> list[Bucket]:
        """Rows that go together."""
        most = self.computing.batch or LARGEST
        if self.work != GENERATE:
            return [Bucket((row,), (0,)) for row in rows]
        return bucket_rows([(row, self.values(row)) for row in rows], most)

    def settle(self, rows: Sequence[Row], results: Results) -> None:
        """Every row stands for itself: nothing is left to settle."""


@lru_cache(_MARKS_KEPT)
def _mark_of(path: Path, size: int, changed: int) -> str:
    return content_mark(path)


def source_mark(path: Path) -> str:
    """A source's mark; the same file is read once for all rows that use it."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return _mark_of(path, status.st_size, status.st_mtime_ns)


def _licence(models: Iterable[ModelFiles]) -> str | None:
    """The first line of the licence file beside the models; None = they bring none."""
    for files in models:
        folder = files.model if files.model.is_dir() else files.model.parent
        for path in sorted(folder.glob("LICEN[CS]E*")):
            lines = path.read_text("utf-8", "replace").split("\n")
            return next((line.strip() for line in lines if line.strip()), None)
    return None
