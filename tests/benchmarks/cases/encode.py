"""What `sa3 pre-encode` takes beside the autoencoder: reading, resampling, hashing, writing.

The whole and the autoencoder's share of it come from one run, so other work on the machine weighs
on both. Halos and padding are the autoencoder's time. One thread on a processor.
"""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import format_for
from sa3_core.checkpoints.load import load_autoencoder
from sa3_core.datasets.encode import ENCODED, Encoder, encode_folder
from sa3_core.datasets.folder import list_recordings
from tests.benchmarks.cases.options import Options
from tests.benchmarks.checkpoints import checkpoint
from tests.benchmarks.measuring.machine import describe

MOST = 0.05  # of the autoencoder's own time
KINDS = (("wav", 44_100), ("flac", 48_000), ("mp3", 44_100))
CLIPS, SECONDS = 2, 30.0


@dataclass
class Watched:
    """Seconds that an encoder is given, beside the whole."""

    spent: float = 0.0

    def of(self, encoder: Encoder) -> Encoder:
        """The same encoder, watched."""

        def run(sound: Tensor) -> Tensor:
            start = time.perf_counter()
            out = encoder.run(sound)
            self.spent += time.perf_counter() - start
            return out

        return replace(encoder, run=run)


def write_clip(folder: Path, kind: str, rate: int, seconds: float, pitch: float) -> None:
    """A recording with its caption."""
    places = torch.arange(round(seconds * rate)) / rate
    sound = 0.4 * torch.sin(2 * math.pi * pitch * places) + 0.1 * torch.randn(2, len(places))
    path = folder / f"{pitch:g}.{kind}"
    write_audio(path, sound.clamp(-1, 1), rate, format_for(path))
    path.with_suffix(".txt").write_text(f"a tone of {pitch:g} Hz", "utf-8")


def measured(encoder: Encoder, kind: str, rate: int, seconds: float) -> tuple[float, float]:
    """Seconds of the whole, and of the autoencoder in it."""
    with tempfile.TemporaryDirectory() as place:
        first, sounds, out = (Path(place) / name for name in ("first", "sounds", "latents"))
        first.mkdir()
        sounds.mkdir()
        write_clip(first, kind, rate, 1.0, 110)
        encode_folder(list_recordings(first), encoder, out)  # silence, and what loads at first use
        for number in range(CLIPS):
            write_clip(sounds, kind, rate, seconds, 220 + 30 * number)
        watched, start = Watched(), time.perf_counter()
        outcomes = encode_folder(list_recordings(sounds), watched.of(encoder), out)
        whole = time.perf_counter() - start
    assert [outcome.status for outcome in outcomes] == [ENCODED] * CLIPS
    return whole, watched.spent


def run(options: Options) -> str:
    """Measure and return a Markdown table."""
    variant, seconds = ("tiny-s", 1.0) if options.quick else ("small-music", SECONDS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        encoder = Encoder.of(load_autoencoder(checkpoint(variant)))
        lines = [
            f"# Encoding a folder, SAME-S, {CLIPS} clips of {seconds:g} s, {describe()}",
            "",
            "| recordings | whole s | autoencoder s | beside it | at most |",
            "|---|---|---|---|---|",
        ]
        for kind, rate in KINDS:
            whole, own = measured(encoder, kind, rate, seconds)
            row = (f"{kind}, {rate} Hz", f"{whole:.2f}", f"{own:.2f}", f"{whole / own - 1:.1%}")
            lines.append(f"| {' | '.join(row)} | {MOST:.0%} |")
    finally:
        torch.set_num_threads(threads)
    return "\n".join([*lines, ""])
