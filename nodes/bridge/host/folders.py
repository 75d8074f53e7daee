"""ComfyUI's folders seen as the core's model library, and how the host reads weight files."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import comfy.memory_management
import comfy.utils
import folder_paths

from ....sa3_core.checkpoints.bundled import bundled_loras
from ....sa3_core.checkpoints.library import Library
from ....sa3_core.checks import shown
from ....sa3_core.errors import InputError
from ....sa3_core.files.names import name_fault
from ....sa3_core.files.published import MODEL_FOLDERS, OWN_FOLDER
from ....sa3_core.files.states import state_of

EXTENSIONS = {".safetensors"}

FileState = tuple[int, int]  # size, and nanoseconds of the last change


def register_folder() -> None:
    """Make `models/stable_audio_3` known, keeping paths that a config file already added."""
    default = str(Path(folder_paths.models_dir) / OWN_FOLDER)
    paths, extensions = folder_paths.folder_names_and_paths.get(OWN_FOLDER, ([], set()))
    merged = list(paths) if default in paths else [*paths, default]
    folder_paths.folder_names_and_paths[OWN_FOLDER] = (merged, set(extensions) | EXTENSIONS)


def register_loras() -> None:
    """List the demo model's LoRA beside the user's own, after them; saving goes elsewhere."""
    folder = bundled_loras()
    paths, extensions = folder_paths.folder_names_and_paths.get("loras", ([], EXTENSIONS))
    if folder is not None and str(folder) not in paths:
        folder_paths.folder_names_and_paths["loras"] = ([*paths, str(folder)], extensions)


def roots(kind: str) -> list[Path]:
    """Folders of a kind, in the host's order."""
    if kind not in folder_paths.folder_names_and_paths:
        return []
    return [Path(path) for path in folder_paths.get_folder_paths(kind)]


def path_below(root: Path, name: str, field: str) -> Path:
    """What a user names in one of ComfyUI's folders, there or not, links followed.

    Args:
        root: the folder.
        name: the path in it.
        field: the input that holds it.

    Raises:
        InputError: a name that no file can have, or one that leads out of the folder.
    """
    if fault := name_fault(Path(name)):
        raise InputError(f"is {shown(name)}, which {fault}. Choose one of the list.", field)
    base = root.resolve()
    path = (base / name).resolve()
    if not path.is_relative_to(base):
        raise InputError(f"is {shown(name)}, which lies outside of the {root.name} folder.", field)
    return path


def file_state(path: Path) -> FileState:
    """What changes when a file is replaced.

    Raises:
        OSError: there is none.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def states_mark(files: Iterable[Path]) -> str:
    """16 digits that change with the path, size or time of any of these files, there or not.

    Short, because ComfyUI writes it into every file that it saves.
    """
    text = repr([(str(file), state_of(file)) for file in files])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def library() -> Library:
    """Every model that ComfyUI's folders (extra_model_paths.yaml included) hold."""
    return Library({kind: roots(kind) for kind in MODEL_FOLDERS})


def read_tensors() -> Callable[[Path], Mapping[str, Any]] | None:
    """The host's reader while it manages VRAM dynamically, else None: the core maps the file.

    Dynamic VRAM wants tensors that its own reader made, so that weights can be read from disk
    straight into the card's memory.
    """
    if not getattr(comfy.memory_management, "aimdo_enabled", False):
        return None

    def read(path: Path) -> Mapping[str, Any]:
        tensors: Any = comfy.utils.load_torch_file(str(path), safe_load=True)
        return tensors

    return read
