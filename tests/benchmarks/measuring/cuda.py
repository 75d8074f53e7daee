"""The DiT on a card: eager, compiled, as CUDA graphs, with and without flash-attn.

The same rows run at toy size on a CPU with `--quick --device cpu`, so that they stay correct where
nobody has a card; compiling then stops at tracing.
"""

from __future__ import annotations

import importlib.util

from tests.benchmarks.cases.jobs import NO_FLASH, Job
from tests.benchmarks.cases.tasks import Plan, Row, generation_flops
from tests.benchmarks.checkpoints import checkpoint

MODES = ("eager", "compile", "compile + graph", "graph")
LENGTHS = {"small": (5.0, 30.0, 120.0), "medium": (5.0, 30.0, 120.0, 380.0)}
VARIANTS = {"small": ("small-music", "fp32"), "medium": ("medium", "bf16")}
TOYS = {"small": "tiny-s", "medium": "tiny-m"}
MISSING = (
    "No CUDA card here: the table of small and medium at 5 to 380 s in half precision (eager, "
    "compiled, CUDA graphs, with and without flash-attn, peak VRAM) is missing."
)
PUBLISHED = (
    "Published for an H200, 8 steps: small 30 s 0.46 s eager, 0.022 s TensorRT; medium 380 s "
    "1.31 s eager, 0.43 s TensorRT, 6.5 GB. Aimed at: half of eager, 1.5 times TensorRT."
)


def implementations(plan: Plan) -> tuple[str, ...]:
    """Ours in every mode, then the peers; for trying it out, one of each kind."""
    if plan.quick:
        return "ours eager", "ours compile", f"ours graph{NO_FLASH}", "diffusers"
    ours = [f"ours {mode}" for mode in MODES]
    if importlib.util.find_spec("flash_attn") is not None:
        ours += [f"ours {mode}{NO_FLASH}" for mode in MODES]
    return (*ours, "comfyui-sdpa", "diffusers")


def rows(plan: Plan, device: str) -> list[Row]:
    """Small and medium, float16 and bfloat16; on a CPU float32 too, which can be compared."""
    found = []
    for size, lengths in LENGTHS.items():
        if plan.quick and size != "medium":
            continue
        variant, stored = VARIANTS[size]
        folder = str(checkpoint(TOYS[size]) if plan.quick else checkpoint(variant, stored))
        for dtype in ("fp32",) if device == "cpu" else ("bf16", "fp16"):
            for seconds in lengths[:1] if plan.quick else lengths:
                job = Job("generation", folder, dtype, plan.length(seconds), device=device)
                row = Row(
                    task="cuda",
                    name=f"DiT {size}, {job.steps} steps",
                    length=seconds,
                    job=job,
                    flops=generation_flops(job),
                    implementations=implementations(plan),
                    rounds=5,
                    result=f"cuda {size} {seconds}",
                )
                found.append(row)
    return found
