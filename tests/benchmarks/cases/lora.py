"""LoRA: reading, building and applying rank 16 on every layer of a medium-shaped DiT, per type.

Also what one applied LoRA costs per sampling step: the ratio of steps with and without it, taken
in turns in one run.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sa3_core.adapters.bases import CACHE_SUFFIX
from sa3_core.adapters.build import build_adapter
from sa3_core.adapters.file import AdapterFile, read_adapter
from sa3_core.adapters.rules import ADAPTER_TYPES, RULES, XS_SUFFIX
from sa3_core.networks.config import DiTConfig
from sa3_core.networks.dit import DiffusionTransformer
from tests.benchmarks.cases.options import Options
from tests.benchmarks.checkpoints import filled

RANK = 16
MEDIUM = DiTConfig(width=1536, depth=24, heads=24, differential=True)
QUICK = DiTConfig(width=256, depth=2, heads=4, differential=True)
STEP_FRAMES, ROUNDS = 174, 5  # 10 s with headroom


def adapted(net: DiffusionTransformer) -> dict[str, Tensor]:
    """Every Linear and Conv1d weight by its path in a LoRA file."""
    state = net.state_dict()
    return {
        f"model.{key.removesuffix('.weight')}": value
        for key, value in state.items()
        if key.endswith(".weight") and value.ndim > 1
    }


def write_lora(path: Path, weights: dict[str, Tensor], adapter_type: str) -> None:
    """A file in the published format, fp16, random."""
    generator = torch.Generator().manual_seed(1)
    tensors: dict[str, Tensor] = {}
    for module, weight in weights.items():
        out, inner = weight.shape[0], weight[0].numel()
        prefix = f"{module}.parametrizations.weight.0."
        shapes = {"lora_A": (RANK, inner), "lora_B": (out, RANK)}
        if adapter_type.endswith(XS_SUFFIX):
            shapes = {"M_xs": (RANK, RANK)}
        for name, shape in shapes.items():
            tensors[prefix + name] = 0.02 * torch.randn(shape, generator=generator)
        rule = RULES[adapter_type.removesuffix(XS_SUFFIX)]
        for name, axis in zip(rule.names, rule.axes, strict=True):
            tensors[prefix + name] = torch.linalg.vector_norm(
                weight.flatten(1).float(), dim=1 - axis
            )
    config = {"rank": RANK, "alpha": RANK, "adapter_type": adapter_type}
    metadata = {"lora_config": json.dumps(config)}
    save_file({k: v.half() for k, v in tensors.items()}, path, metadata)


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def apply_all(file: AdapterFile, state: dict[str, Tensor]) -> None:
    """Merge a LoRA into every weight, one after the other (nothing is kept)."""
    for key, adapter in build_adapter(file, state).items():
        adapter.apply(state[key], 1.0)


def share_bases(path: Path) -> bool:
    """Give a later -xs LoRA the singular vectors that lora-xs computed; False for lora-xs."""
    first = path.with_name(f"lora{XS_SUFFIX}").with_suffix(CACHE_SUFFIX)
    if path.with_suffix(CACHE_SUFFIX) == first:
        return False
    shutil.copy(first, path.with_suffix(CACHE_SUFFIX))
    return True


def step_ratio(net: DiffusionTransformer, patched: DiffusionTransformer) -> float:
    """Median time of a step with the LoRA in the weights, over that without."""
    x = torch.randn(1, 256, STEP_FRAMES)
    t = torch.tensor([0.5])
    context, width = torch.randn(1, 12, 768, dtype=net.dtype), net.config.cond_width
    times: dict[int, list[float]] = {0: [], 1: []}
    prepared = [
        n.prepare(context, None, torch.randn(1, width), None, None, STEP_FRAMES)
        for n in (net, patched)
    ]
    for _ in range(ROUNDS):
        for which, n in enumerate((net, patched)):
            times[which].append(timed(lambda n=n, w=which: n.velocity(x, t, prepared[w])))
    return statistics.median(times[1]) / statistics.median(times[0])


def patched_copy(
    net: DiffusionTransformer, file: AdapterFile, state: dict[str, Tensor]
) -> DiffusionTransformer:
    """The DiT with the LoRA in its weights."""
    changed = dict(net.state_dict())
    for key, adapter in build_adapter(file, state).items():
        changed[key.removeprefix("model.model.")] = adapter.apply(state[key], 1.0)
    copy = DiffusionTransformer(net.config, dtype=net.dtype, device=torch.device("meta"))
    copy.load_state_dict(changed, assign=True)
    return copy.requires_grad_(False)


@torch.inference_mode()
def run(options: Options) -> str:
    """Measure every adapter type and return a Markdown table."""
    config = QUICK if options.quick else MEDIUM
    net = DiffusionTransformer(config, dtype=torch.float32, device=torch.device("meta"))
    net = filled(net, torch.device("cpu"))
    weights = adapted(net)
    state = {f"model.{module}.weight": value for module, value in weights.items()}
    lines = [
        f"# LoRA, rank {RANK}, {len(state)} layers, "
        f"{sum(w.numel() for w in state.values()) / 1e6:.0f} M weights, "
        f"{torch.get_num_threads()} threads",
        "",
        "| type | read s | first build s | second build s | apply all s |",
        "|---|---|---|---|---|",
    ]
    ratio = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for adapter_type in ADAPTER_TYPES:
            path = Path(folder) / f"{adapter_type}.safetensors"
            write_lora(path, weights, adapter_type)
            read = timed(lambda p=path: read_adapter(p))
            file = read_adapter(path)
            shared = file.is_xs and share_bases(path)
            first = timed(lambda f=file: build_adapter(f, state))
            second = timed(lambda f=file: build_adapter(f, state))
            whole = timed(lambda f=file: apply_all(f, state))
            row = [f"{seconds:.2f}" for seconds in (read, first, second, whole - second)]
            row[1] += " (singular vectors of lora-xs)" if shared else ""
            lines.append(f"| {adapter_type} | " + " | ".join(row) + " |")
            if adapter_type == "dora-rows":
                ratio = step_ratio(net, patched_copy(net, file, state))
    lines += ["", f"Step with one LoRA applied over step without: x{ratio:.3f}", ""]
    return "\n".join(lines)
