"""In-process fixtures: bridge modules and loaded tiny models."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tests.helpers import editing_support


@pytest.fixture(scope="session")
def bridge(pack: ModuleType) -> SimpleNamespace:
    """The pack's bridge and core modules by name."""
    names = [
        f"nodes.bridge.sockets.{name}" for name in ("model", "clip", "vae", "values", "riding")
    ]
    names += [f"nodes.bridge.work.{name}" for name in ("sampling", "coding", "loading", "saving")]
    names += ["nodes.bridge.host.running", "nodes.bridge.host.dtypes", "sa3_core.errors"]
    names += [f"sa3_core.sampling.{name}" for name in ("settings", "noise", "start", "plan")]
    modules = {}
    for name in names:
        prefix = "core_" if name.startswith("sa3_core") else ""
        key = f"{prefix}{name.rpartition('.')[2]}"
        modules[key] = importlib.import_module(f"sa3_pack.{name}")
    return SimpleNamespace(**modules)


@pytest.fixture(scope="session")
def mm(pack: ModuleType) -> ModuleType:
    """ComfyUI's model management (importable only once the pack is loaded)."""
    return importlib.import_module("comfy.model_management")


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    """ComfyUI executes nodes in inference mode."""
    with torch.inference_mode():
        yield


@pytest.fixture
def patcher(bridge: SimpleNamespace, tiny_s: Path) -> Any:
    """A fresh MODEL of tiny-s."""
    return bridge.model.load_patcher(str(tiny_s), "tiny-s", "fp32", "auto")


@pytest.fixture
def prompt() -> list[Any]:
    """A CONDITIONING of one prompt of five tokens."""
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randn(1, 5, 768, generator=generator)
    return [[tokens, {"pooled_output": None, "attention_mask": torch.ones(1, 5, dtype=torch.bool)}]]


@pytest.fixture(scope="session")
def small(pack: ModuleType, tiny_s: Path) -> editing_support.Loaded:
    """MODEL, CLIP and VAE of tiny-s, with the nodes around them."""
    return editing_support.load(pack, tiny_s)


@pytest.fixture(scope="session")
def medium(pack: ModuleType, tiny_m: Path) -> editing_support.Loaded:
    """The same of tiny-m: differential attention, SAME-L."""
    return editing_support.load(pack, tiny_m)
