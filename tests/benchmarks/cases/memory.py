"""Estimated against measured peak memory of the DiT, of decoding and encoding, and of a whole run.

Each row is a process of its own: what one run leaves in the heap would hide the next one's peak.
Measured is what is needed beside the weights, all of them in memory before: on a CPU the peak of
the resident set, on a GPU that of torch's allocator.
"""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch

from sa3_core.codec.chunking import decode_chunked, encode_chunked
from sa3_core.codec.memory import decode_memory, encode_memory
from sa3_core.files.published import DTYPES
from sa3_core.geometry import (
    HOP,
    LATENT_CHANNELS,
    SAMPLE_RATE,
    frames_covering,
    target_frames,
    valid_frames,
)
from sa3_core.networks.conditioning import Conditioner
from sa3_core.networks.config import DiTConfig, ModelConfig, ResamplerConfig, SAMEConfig
from sa3_core.networks.dit import DiffusionTransformer
from sa3_core.networks.model import SA3Model
from sa3_core.networks.placement import dit_memory
from sa3_core.networks.same import SAMEAutoencoder
from sa3_core.sampling.noise import Seeds
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning
from tests.benchmarks.cases.options import BenchmarkError, Options
from tests.benchmarks.checkpoints import ROOT, filled
from tests.benchmarks.measuring.machine import (
    give_back_free_memory,
    peak_resident,
    reset_peak,
    resident,
)

TOLERANCE = 0.2
ROUNDS = 3  # a short row is the median of that many
SHORT = {"DiT": 120.0, "SAME": 30.0}  # seconds
SECONDS, SMALL_MAX_SECONDS = (10.0, 30.0, 120.0, 380.0), 120.0
CHUNK = 64  # latents, of the rows in chunks
MAX_SAMPLES = 16_777_216
TOKENS = 12  # of the prompt
GUIDANCE, INPAINTING, CHUNKED = "guidance", "inpainting", "in chunks"
MANNERS = ("", f", {GUIDANCE}", f", {INPAINTING}")
RUN = "medium run"
CODING = ("decode", f"decode {CHUNKED}", "encode", f"encode {CHUNKED}")

DITS = {
    "small DiT": DiTConfig(width=1024, depth=20, heads=16, differential=False),
    "medium DiT": DiTConfig(width=1536, depth=24, heads=24, differential=True),
}
S = {"channels": 512, "width": 768, "depth": 6, "chunk": 32, "window": None}
L = {"channels": 512, "width": 1536, "depth": 12, "chunk": None, "window": 1}
SAMES = {
    "SAME-S": SAMEConfig(
        ResamplerConfig(kernel=1, **S), ResamplerConfig(kernel=3, mask_noise=0.01, **S)
    ),
    "SAME-L": SAMEConfig(
        ResamplerConfig(kernel=1, **L), ResamplerConfig(kernel=1, sinusoidal=8, **L)
    ),
}
Case = tuple[float, Callable[[], object]]  # estimated bytes, the work


@dataclass(frozen=True)
class Trial:
    """One row: a part of PARTS, at a length, in a dtype, on a device."""

    part: str
    seconds: float
    dtype: str = "fp32"
    device: str = "cpu"


def dit_case(trial: Trial) -> Case:
    """One step of a generation."""
    name, _, manner = trial.part.partition(", ")
    config, meta = DITS[name], torch.device("meta")
    dtype, device = DTYPES[trial.dtype], torch.device(trial.device)
    whole = ModelConfig(dit=config, same=None)
    dit = DiffusionTransformer(config, dtype=dtype, device=meta)
    conditioner = Conditioner(whole, device=meta, dtype=torch.float32)
    model = SA3Model(
        dit=filled(dit, device),
        conditioner=filled(conditioner, device),
        config=whole,
        objective="rf_denoiser",
        name=name,
        sample_size=MAX_SAMPLES,
        device=device,
        dtype=dtype,
    )
    total = target_frames(trial.seconds, MAX_SAMPLES)
    keep = None
    if manner == INPAINTING:
        keep = torch.ones(1, 1, total)
        keep[..., : total // 2] = 0
    start = StartLatent(torch.zeros(1, LATENT_CHANNELS, total), (trial.seconds,), keep)
    text = TextConditioning(torch.randn(1, TOKENS, 768), torch.ones(1, TOKENS, dtype=torch.bool))
    settings = SampleSettings(steps=1, cfg=7.0 if manner == GUIDANCE else 1.0)
    frames = valid_frames(trial.seconds, total)
    batch, masked = 2 if manner == GUIDANCE else 1, int(manner == INPAINTING)
    needed = dit_memory(config, batch, frames, dtype, device, masked)
    return needed, lambda: sample_latent(model, start, settings, text, None, Seeds(1))


def same_case(trial: Trial) -> Case:
    """Decoding or encoding, whole or in chunks."""
    name, _, manner = trial.part.partition(" ")
    chunk = CHUNK if manner.endswith(CHUNKED) else None
    config, dtype, device = SAMES[name], DTYPES[trial.dtype], torch.device(trial.device)
    net = filled(SAMEAutoencoder(config, device=torch.device("meta"), dtype=dtype), device)
    frames = frames_covering(int(trial.seconds * SAMPLE_RATE))
    if manner.startswith("decode"):
        latent = torch.randn(1, LATENT_CHANNELS, frames).to(device, dtype)
        needed = decode_memory(config, frames, chunk, dtype, device)
        return needed, lambda: decode_chunked(net, latent, chunk, out_device="cpu")
    audio = torch.randn(1, 2, frames * HOP).to(device, dtype)
    needed = encode_memory(config, frames, chunk, dtype, device)
    return needed, lambda: encode_chunked(net, audio, chunk)


def run_case(trial: Trial) -> Case:
    """A step of the longest model's generation and its decoding in float32, both nets in memory."""
    sampling, sample = dit_case(replace(trial, part="medium DiT"))
    decoding, decode = same_case(replace(trial, part="SAME-L decode", dtype="fp32"))
    return max(sampling, decoding), lambda: (sample(), decode())


def measured(work: Callable[[], object], device: torch.device) -> float:
    """Peak memory of a call beyond what is in use before, in bytes."""
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    give_back_free_memory()
    before = resident()
    reset_peak()
    work()
    peak = peak_resident()
    if before is None or peak is None:
        raise BenchmarkError("This system does not tell a process's resident memory.", "")
    return peak - before


def one(trial: Trial) -> tuple[float, float]:
    """(estimated, measured) bytes, in this process."""
    with torch.inference_mode():
        case = dit_case if " DiT" in trial.part else same_case
        estimate, work = (run_case if trial.part == RUN else case)(trial)
        return estimate, measured(work, torch.device(trial.device))


def in_fresh_process(trial: Trial) -> tuple[float, float]:
    """As `one`, in a process that has done nothing before."""
    command = [sys.executable, "-m", "tests.benchmarks.cases.memory", json.dumps(asdict(trial))]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    estimate, peak = json.loads(done.stdout.splitlines()[-1])
    return estimate, peak


def trials(options: Options, device: str) -> list[Trial]:
    """The rows that were asked for."""
    parts = [f"{name}{manner}" for name in DITS for manner in MANNERS]
    parts += [RUN, *(f"{name} {manner}" for name in SAMES for manner in CODING)]
    if options.only:
        parts = [p for p in parts if any(name.lower() in p.lower() for name in options.only)]
    lengths = options.seconds or (SECONDS[:1] if options.quick else SECONDS)
    return [
        Trial(part, seconds, dtype, device)
        for part in parts
        for seconds in lengths
        for dtype in dtypes_of(part, device)
        if seconds <= SMALL_MAX_SECONDS or not part.startswith("small")
    ]


def dtypes_of(part: str, device: str) -> tuple[str, ...]:
    """Dtypes that the nodes compute a part in; an autoencoder on a CPU always in float32."""
    if part == RUN:
        return ("bf16",)
    if device == "cuda":
        return tuple(DTYPES)
    return ("fp32", "bf16") if "DiT" in part else ("fp32",)


def row(trial: Trial, estimate: float, peak: float) -> str:
    """A line of the table."""
    numbers = f"{estimate / 1e6:.0f} | {peak / 1e6:.0f} | {estimate / peak:.2f}"
    fits = "yes" if abs(estimate / peak - 1) <= TOLERANCE else "no"
    return f"| {trial.part} | {trial.dtype} | {trial.seconds:g} | {numbers} | {fits} |"


def run(options: Options) -> str:
    """Measure every row and return a Markdown table.

    Raises:
        BenchmarkError: an estimate is further from the measured peak than TOLERANCE.
    """
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = trials(options, device)
    lines = [
        "# Memory beside the weights: estimated and measured peak, MB "
        f"({device}, {torch.get_num_threads()} threads)",
        "",
        "| part | dtype | seconds | estimate | measured | ratio | within 20 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for trial in rows:
        # Where little is needed, what the libraries happen to touch differs from run to run.
        short = SHORT["DiT" if " DiT" in trial.part else "SAME"]
        varies = device == "cpu" and trial.seconds <= short
        rounds = options.rounds or (ROUNDS if varies else 1)
        found = [in_fresh_process(trial) for _ in range(rounds)]
        peak = statistics.median(peak for _, peak in found)
        lines.append(row(trial, found[0][0], peak))
        print(lines[-1], flush=True)
    table = "\n".join([*lines, ""])
    wrong = sum(line.endswith("| no |") for line in lines)
    if wrong:
        raise BenchmarkError(f"{wrong} of {len(rows)} estimates are off by more than 20 %", table)
    return table


if __name__ == "__main__":
    print(json.dumps(one(Trial(**json.loads(sys.argv[1])))))
