"""What narrower weights and half precision cost: sound, memory and time against float32.

One text-to-audio generation per seed with equal noise in every row. fp32, bf16 and fp16 store and
compute in that dtype; the 8-bit formats store the blocks' matrices and compute as `auto` does here.
Random weights: trained ones have other distributions, so take the order, not the decibels.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sa3_core.files.published import DTYPES
from tests.benchmarks.cases.options import Options
from tests.benchmarks.checkpoints import checkpoint
from tests.helpers.support import ROOT, comfyui_root

PACK = "sa3_quality_pack"
SECONDS, STEPS = 10.0, 8
PROMPTS = (
    "warm analog synth pad, slow attack, lush reverb",
    "drum loop, punchy kick and snare, 120 BPM",
    "rain on a tin roof, distant thunder",
)
HEADER = ("model", "precision", "computed in", "latents", "audio", "transformer", "one step")


@dataclass(frozen=True)
class Row:
    """One precision's results.

    Attributes:
        takes: latents [1, C, T] and audio [A, N] per seed.
        compute: dtype of the transformer's arithmetic.
        weights: of the transformer, in bytes.
        step: seconds.
    """

    takes: list[tuple[Tensor, Tensor]]
    compute: torch.dtype
    weights: int
    step: float


def run(options: Options) -> str:
    """Measure every precision and return a Markdown table."""
    on_card = options.device != "cpu" and torch.cuda.is_available()
    lines = [
        f"# Quality by precision, {SECONDS:g} s, pingpong, {STEPS} steps, random weights, "
        + (torch.cuda.get_device_name() if on_card else f"{torch.get_num_threads()} CPU threads"),
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
    ]
    with tempfile.TemporaryDirectory() as base, torch.inference_mode():
        _start_host(base, on_card)
        for variant in ("tiny-s", "tiny-m") if options.quick else ("small-music",):
            rows = _measure(variant, len(PROMPTS) if options.quick else 1, on_card)
            lines += [_line(variant, name, row, rows["fp32"]) for name, row in rows.items()]
    return "\n".join([*lines, ""])


def _start_host(base: str, on_card: bool) -> None:
    """Make ComfyUI and, inside it, this pack importable."""
    if PACK in sys.modules:
        return
    sys.path.insert(0, str(comfyui_root()))
    sys.argv = ["main.py", "--base-directory", base, *([] if on_card else ["--cpu"])]
    importlib.import_module("comfy.options").enable_args_parsing()
    spec = importlib.util.spec_from_file_location(
        PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[PACK] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[PACK])


def _part(name: str) -> ModuleType:
    return importlib.import_module(f"{PACK}.{name}")


def _measure(variant: str, seeds: int, on_card: bool) -> dict[str, Row]:
    """Every precision of one model; the text encoder and autoencoder are float32 throughout."""
    folder, device = checkpoint(variant), "cuda" if on_card else "cpu"
    text = _part("sa3_core.text.encoder").load_t5gemma(folder / "t5gemma-b-b-ul2")
    prompts = [text.encode([prompt]) for prompt in PROMPTS[:seeds]]
    del text
    same = _part("sa3_core.checkpoints.load").load_autoencoder(folder, torch.float32, device)
    rows = {}
    for name in (*DTYPES, *_part("nodes.bridge.sockets.quantised").quantised_formats()):
        opened = _wide(folder, DTYPES[name], device) if name in DTYPES else _quantised(folder, name)
        with opened as (model, weights):
            made = [_sample(model, prompt, seed) for seed, prompt in enumerate(prompts)]
        takes = [(latent, _decode(same, latent)) for latent, _ in made]
        step = statistics.median(t for _, times in made for t in times)
        rows[name] = Row(takes, model.dtype, weights, step)
    return rows


@contextmanager
def _wide(folder: Any, dtype: torch.dtype, device: str) -> Iterator[tuple[Any, int]]:
    model = _part("sa3_core.checkpoints.load").load_model(folder, dtype=dtype, device=device)
    yield model, sum(tensor.nbytes for tensor in model.dit.state_dict().values())


@contextmanager
def _quantised(folder: Any, name: str) -> Iterator[tuple[Any, int]]:
    host = _part("nodes.bridge.sockets.model")
    patcher = host.load_patcher(str(folder), folder.name, name, "auto")
    state = patcher.model.state_dict()
    weights = sum(v.nbytes for k, v in state.items() if k.startswith("diffusion_model."))
    with _part("nodes.bridge.host.running").loaded(patcher, 0.0) as model:
        yield host.core_model(patcher, model), weights
    patcher.detach()


def _sample(model: Any, prompt: Any, seed: int) -> tuple[Tensor, list[float]]:
    """Latents [1, C, T] and the seconds of every step but the first, which warms up."""
    sample, geometry = _part("sa3_core.sampling.sample"), _part("sa3_core.geometry")
    values, noise = _part("sa3_core.sampling.start"), _part("sa3_core.sampling.noise")
    frames = geometry.target_frames(SECONDS, model.sample_size)
    start = values.StartLatent(torch.zeros(1, geometry.LATENT_CHANNELS, frames), (SECONDS,))
    settings = _part("sa3_core.sampling.settings").SampleSettings(
        steps=STEPS, sampler="pingpong", cfg=1.0
    )
    marks: list[float] = []

    def mark(step: int, steps: int, denoised: Tensor) -> None:
        if denoised.is_cuda:
            torch.cuda.synchronize()
        marks.append(time.perf_counter())

    latent = sample.sample_latent(
        model, start, settings, prompt, None, noise.Seeds(seed), on_step=mark
    )
    return latent, [b - a for a, b in pairwise(marks)]


def _decode(same: Any, latent: Tensor) -> Tensor:
    """Audio [A, N] of one latent."""
    latents = _part("sa3_core.codec.latent_file").Latents(latent, (SECONDS,))
    (audio,) = _part("sa3_core.codec.autoencode").decode(same, latents)
    return audio


def snr_db(found: Tensor, wanted: Tensor) -> float:
    """Energy of what is wanted over that of the difference, in decibels."""
    difference = (found.double() - wanted.double()).norm()
    return float(20 * torch.log10(wanted.double().norm() / difference))


def _line(variant: str, name: str, row: Row, reference: Row) -> str:
    """A row of the table; over several takes the least decibels."""
    compute = str(row.compute).removeprefix("torch.")
    cells = [variant, name, compute, "reference", "reference"]
    if row is not reference:
        pairs = list(zip(row.takes, reference.takes, strict=True))
        cells[3:] = [f"{min(snr_db(a[i], b[i]) for a, b in pairs):.1f} dB" for i in (0, 1)]
    return "| " + " | ".join([*cells, f"{row.weights / 1e6:.0f} MB", f"{row.step:.2f} s"]) + " |"
