"""Loading a checkpoint in fresh processes beside reading its file once.

    python -m tests.benchmarks.cases.load ours|read FOLDER

A probe first imports everything. `ours` loads model and autoencoder, runs one step on a short piece
and decodes it; `read` reads the file into one buffer. The file is in the system's cache.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sa3_core.checkpoints.load import load_autoencoder, load_model
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.codec.autoencode import decode
from sa3_core.codec.latent_file import Latents
from sa3_core.geometry import LATENT_CHANNELS
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TEXT_WIDTH, TextConditioning
from tests.benchmarks.checkpoints import ROOT
from tests.benchmarks.measuring import machine

PROBES = ("read", "ours")
SECONDS, FRAMES, STEPS = 2.0, 88, 3
TARGET = 1.3


@dataclass
class Load:
    """What was measured.

    Attributes:
        size: bytes of the file.
        start: seconds until the file was read, or until the first step began, by probe.
        first_step: how much longer our first step took than the third.
        growth: highest memory above what it was after the imports, in sizes of the file.
    """

    size: int
    start: dict[str, float]
    first_step: float
    growth: dict[str, float | None]

    @property
    def ratio(self) -> float:
        """Our start over reading the file."""
        return self.start["ours"] / self.start["read"]

    def lines(self) -> list[str]:
        """A table, as Markdown."""
        table = [
            f"## Loading {self.size / 1e9:.2f} GB, fresh processes, file in the cache",
            "",
            "| | seconds | peak memory, in file sizes |",
            "|---|---|---|",
        ]
        names = {"read": "reading the file once", "ours": "until the first step begins"}
        for probe, name in names.items():
            growth = self.growth[probe]
            shown = "n/a" if growth is None else f"{growth:.2f}"
            table.append(f"| {name} | {self.start[probe]:.2f} | {shown} |")
        table.append(
            f"| the first step beyond the third (pages come in) | {self.first_step:.2f} | |"
        )
        met = "yes" if self.ratio <= TARGET else "NO"
        return [*table, "", f"Start over reading: {self.ratio:.2f}x (<= {TARGET}x {met})."]


def measure_load(folder: Path, rounds: int) -> Load:
    """Measure both probes in turns."""
    found: dict[str, list[dict[str, float]]] = {probe: [] for probe in PROBES}
    for number in range(rounds + 1):
        for probe in PROBES:
            command = [sys.executable, "-m", "tests.benchmarks.cases.load", probe, str(folder)]
            done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True)
            if number:  # before, the file may not have been in the cache
                found[probe].append(json.loads(done.stdout.splitlines()[-1]))

    def median(probe: str, key: str) -> float:
        return statistics.median(answer[key] for answer in found[probe])

    size = (folder / "model.safetensors").stat().st_size
    known = "growth" in found["ours"][0]
    return Load(
        size=size,
        start={probe: median(probe, "start") for probe in PROBES},
        first_step=median("ours", "first_step"),
        growth={probe: median(probe, "growth") / size if known else None for probe in PROBES},
    )


def _read(folder: Path) -> dict[str, float]:
    path = folder / "model.safetensors"
    begin = time.perf_counter()
    buffer = bytearray(path.stat().st_size)
    with path.open("rb", buffering=0) as file:
        view, at = memoryview(buffer), 0
        while at < len(buffer):
            at += file.readinto(view[at:]) or 0
    return {"start": time.perf_counter() - begin}


@torch.inference_mode()
def _ours(folder: Path) -> dict[str, float]:
    begin, marks = time.perf_counter(), list[float]()
    dtype = open_checkpoint(folder).dtypes["dit"]
    model, autoencoder = load_model(folder, dtype=dtype), load_autoencoder(folder, dtype)
    shape = 1, LATENT_CHANNELS, FRAMES

    def noise() -> Tensor:
        if not marks:
            marks.append(time.perf_counter())  # drawn right before the first step
        return torch.randn(shape)

    tokens = TextConditioning(torch.randn(1, 10, TEXT_WIDTH), torch.ones(1, 10, dtype=torch.bool))
    frames = sample_latent(
        model,
        StartLatent(torch.zeros(shape), (SECONDS,)),
        SampleSettings(steps=STEPS),
        tokens,
        None,
        noise,
        on_step=lambda step, steps, denoised: marks.append(time.perf_counter()),
    )
    decode(autoencoder, Latents(frames, (SECONDS,)))
    last = marks[STEPS] - marks[STEPS - 1]
    return {"start": marks[0] - begin, "first_step": marks[1] - marks[0] - last}


def main() -> None:
    """Run one probe and print what it measured."""
    probe, folder = sys.argv[1], Path(sys.argv[2])
    torch.mm(torch.ones(64, 64), torch.ones(64, 64))
    machine.reset_peak()
    base = machine.resident()
    answer = {"read": _read, "ours": _ours}[probe](folder)
    peak = machine.peak_resident()
    if base is not None and peak is not None:
        answer["growth"] = peak - base
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
