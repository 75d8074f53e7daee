"""Paths and fixtures that every test may use.

Import names: `sa3_core` is the core as scripts see it, `tests.helpers.support` holds plain helpers.
ComfyUI loads the pack under another name, so node tests reach nodes *and* core through `pack`.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # last: ComfyUI's own top-level `nodes` module must win
if "tests" not in sys.modules:  # ComfyUI has a `tests` package too; ours is the one meant here
    sys.modules["tests"] = types.ModuleType("tests")
    sys.modules["tests"].__path__ = [str(ROOT / "tests")]

from tests.helpers import in_process, support  # noqa: E402 - needs the lines above
from tests.helpers.harness import ComfyServer, server_with_models  # noqa: E402


class _PlainRoot:
    """Collects the repository root as a folder: as a package it would be imported, without ComfyUI.

    Pytest does that only where the folder's name is an identifier, so a clone named otherwise
    hides it. A plugin object, because hooks of this file are not asked about folders above it.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Dir | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_PlainRoot())
    config.addinivalue_line("markers", "smoke: what `dev.py matrix` runs on every ComfyUI version")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "comfy" in fixtures:
            item.add_marker("server")
        if "page" in fixtures:
            item.add_marker("browser")


def _float32_on_every_cpu(core: str) -> None:
    """`auto` is bfloat16 on some CPUs; goldens are float32, and results must not differ by CPU."""
    importlib.import_module(f"{core}.networks.placement").cpu_has_bfloat16 = lambda: False
    importlib.import_module(f"{core}.networks.attention").BFLOAT16_PAYS = False


_float32_on_every_cpu("sa3_core")


@pytest.fixture(scope="session")
def tiny_s() -> Path:
    """Folder of the tiny SAME-S style checkpoint, seed 0."""
    return support.tiny_checkpoint("tiny-s")


@pytest.fixture(scope="session")
def tiny_m() -> Path:
    """Folder of the tiny SAME-L style checkpoint (differential attention), seed 0."""
    return support.tiny_checkpoint("tiny-m")


@pytest.fixture(scope="session")
def golden() -> Callable[[str], support.Golden]:
    """golden("tiny-s/t2a")["latents"], golden("tiny-s/t2a").settings["steps"]."""
    return support.load_golden


@pytest.fixture(scope="session")
def rel_l2() -> Callable[[Tensor, Tensor], float]:
    """rel_l2(actual, expected): relative L2 distance (also `tests.support.rel_l2`)."""
    return support.rel_l2


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ComfyUI importable in this process, on the CPU, with all its folders in a temporary one.

    Returns:
        The base directory: models, input, output, temp and user lie below it.
    """
    base = tmp_path_factory.mktemp("comfyui")
    in_process.import_comfyui(base)
    return base


@pytest.fixture(scope="session")
def pack(comfyui: Path) -> types.ModuleType:
    """The node pack as ComfyUI loads it: by path, as the package `sa3_pack`.

    `pack.nodes`, and after importlib.import_module("sa3_pack.nodes.sampling") that module too.
    """
    module = in_process.import_pack()
    _float32_on_every_cpu("sa3_pack.sa3_core")
    return module


@pytest.fixture(scope="session")
def comfy(
    tmp_path_factory: pytest.TempPathFactory, tiny_s: Path, tiny_m: Path
) -> Iterator[ComfyServer]:
    """One real server for the whole session, on the CPU, with tiny models and without network.

    Its models: `tiny-s`, `tiny-m` (folders) and `checkpoints/stable_audio_3_tiny.safetensors`
    (the weights of tiny-s alone); text_encoders and loras are there and empty.
    """
    base = tmp_path_factory.mktemp("server")
    server = server_with_models(base, {"tiny-s": tiny_s, "tiny-m": tiny_m})
    single = server.models("checkpoints") / "stable_audio_3_tiny.safetensors"
    shutil.copy(tiny_s / "model.safetensors", single)
    with server:
        yield server
