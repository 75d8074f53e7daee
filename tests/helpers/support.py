"""What many tests share: golden tensors, tiny checkpoints, the ComfyUI to test against."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
DEV = ROOT / ".dev"
GOLDEN = ROOT / "tests" / "golden"
MAKE_CHECKPOINT = ROOT / "tests" / "helpers" / "make_checkpoint.py"
CHECKPOINT_SOURCES = (MAKE_CHECKPOINT, ROOT / "tests" / "helpers" / "checkpoint_tensors.py")


@dataclass(frozen=True)
class Golden:
    """One golden file: its tensors, the settings it was made with, its raw header metadata."""

    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    metadata: dict[str, str]

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def __contains__(self, key: str) -> bool:
        return key in self.tensors


def golden_path(name: str) -> Path:
    """Path of a golden file; `name` is like "tiny-s/t2a"."""
    return GOLDEN / f"{name}.safetensors"


def load_golden(name: str) -> Golden:
    """Read tests/golden/<name>.safetensors; `name` is like "tiny-s/t2a".

    Raises:
        FileNotFoundError: no such golden file.
    """
    path = golden_path(name)
    if not path.is_file():
        known = sorted(p.relative_to(GOLDEN).as_posix() for p in GOLDEN.rglob("*.safetensors"))
        raise FileNotFoundError(f"no golden file {path}; present: {', '.join(known) or 'none'}")
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata() or {})
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    return Golden(tensors, json.loads(metadata.get("settings", "{}")), metadata)


def rel_l2(actual: Tensor, expected: Tensor) -> float:
    """Relative L2 distance |actual - expected| / |expected|, in float64.

    Raises:
        AssertionError: the shapes differ, or a value is not finite.
    """
    assert actual.shape == expected.shape, f"{tuple(actual.shape)} != {tuple(expected.shape)}"
    a, b = actual.detach().cpu().double(), expected.detach().cpu().double()
    distance = ((a - b).norm() / b.norm().clamp_min(torch.finfo(torch.float64).tiny)).item()
    assert math.isfinite(distance), "values are not finite"
    return distance


def kept_frames(audio: Tensor, data: Golden) -> Tensor:
    """The frames of [B, 2, 4096 T] that a golden file of the autoencoder keeps."""
    return audio.unflatten(-1, (-1, 4096))[:, :, data.settings["kept_frames"]].flatten(2)


def assert_none(problems: list[str]) -> None:
    """Fail with all the problems found, one per line."""
    assert not problems, "\n" + "\n".join(problems)


def tiny_checkpoint(variant: str) -> Path:
    """Folder of a random-weight checkpoint (seed 0) in the published format, built once.

    Kept under .dev/fixtures by the hash of the code that makes it, so that an edit rebuilds.
    Built beside its place and then renamed: two test runs may start at once.
    """
    sources = b"".join(path.read_bytes() for path in CHECKPOINT_SOURCES)
    digest = hashlib.sha256(sources).hexdigest()[:12]
    target = DEV / "fixtures" / digest / variant
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f"{variant}-", dir=target.parent))
    command = [sys.executable, str(MAKE_CHECKPOINT), "--variant", variant, "--seed", "0"]
    subprocess.run([*command, "--out", str(staging)], check=True, stdout=subprocess.DEVNULL)
    try:
        staging.rename(target)
    except OSError:  # another run was faster
        shutil.rmtree(staging)
    return target


def comfyui_root() -> Path:
    """The ComfyUI under test: $SA3_COMFYUI, else the newest one that `dev.py setup` unpacked.

    Raises:
        FileNotFoundError: there is none.
    """
    given = os.environ.get("SA3_COMFYUI")
    root = Path(given) if given else DEV / "ComfyUI-0.30.0"
    if not (root / "main.py").is_file():
        raise FileNotFoundError(f"no ComfyUI in {root}; run `python dev.py setup` first")
    return root
