"""Random weights: checkpoints of real size, written once into `.dev/bench`, and nets filled."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)
ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".dev" / "bench"


def checkpoint(variant: str, dtype: str = "fp32") -> Path:
    """The folder of a variant's checkpoint; `tests.helpers.make_checkpoint` makes a missing one.

    Made in a process of its own, so that the memory is free again before anything is measured.

    Args:
        variant: e.g. `small-music`, `same-l`, `tiny-s`.
        dtype: of the weights in the file.

    Raises:
        RuntimeError: it could not be made; the reason stands on standard error.
    """
    folder = CACHE / (variant if dtype == "fp32" else f"{variant}-{dtype}")
    if (folder / "model.safetensors").is_file():
        return folder
    print(f"Writing random weights: {folder.name} ...", flush=True)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "tests.helpers.make_checkpoint",
        "--variant",
        variant,
        "--seed",
        "0",
    ]
    done = subprocess.run([*command, "--dtype", dtype, "--out", str(partial)], cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"could not write the checkpoint {folder.name}")
    partial.rename(folder)
    return folder


def filled(net: Net, device: torch.device) -> Net:
    """Give a net on the meta device random weights that keep activations finite."""
    net.to_empty(device=device)
    for name, value in [*net.named_parameters(), *net.named_buffers()]:
        if value.ndim > 1 and value.numel():
            value.data.uniform_(-1, 1).mul_(value[0].numel() ** -0.5)
        else:
            value.data.fill_(1.0 if name.endswith(("gamma", "alpha", "running_std")) else 0.01)
    return net.requires_grad_(False)
