"""ComfyUI and the pack imported into this process, without a server."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.helpers.loops import finish
from tests.helpers.support import ROOT, comfyui_root

PACK = "sa3_pack"


def import_comfyui(base: Path) -> None:
    """Make ComfyUI importable, on the CPU, with all its folders below `base`."""
    for folder in ("models", "input", "output", "temp", "user", "custom_nodes"):
        (base / folder).mkdir()
    sys.path.insert(0, str(comfyui_root()))
    argv, sys.argv = sys.argv, ["x", "--cpu", "--base-directory", str(base)]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args
        import folder_paths
    finally:
        sys.argv = argv
    assert Path(folder_paths.base_path) == base, "ComfyUI was imported before"


def import_pack() -> ModuleType:
    """The node pack as ComfyUI loads it: by path, as the package `sa3_pack`."""
    spec = importlib.util.spec_from_file_location(
        PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)
    return module


def node_classes(pack: ModuleType) -> list[type[Any]]:
    """Every node class of the pack."""

    async def read() -> list[type[Any]]:
        return await (await pack.comfy_entrypoint()).get_node_list()

    return finish(read())
