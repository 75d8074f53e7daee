"""LORA_MODEL: what was trained, as ComfyUI's own LoRA sockets take it, with its file at hand."""

import hashlib
from pathlib import Path
from typing import Any

import folder_paths
from safetensors.torch import save
from torch import Tensor

from ....sa3_core.errors import InputError
from ....sa3_core.files.published import CONDITIONER_PREFIX, DIT_PREFIX
from ....sa3_core.files.tensor_file import check_finite
from ....sa3_core.files.whole_file import whole_file
from ....sa3_core.training.adapter import TrainedAdapter
from ....sa3_core.training.branches import PlainBranch

_WHOLE = ("diff", "dora_scale")  # shaped as the weight is


class TrainedLora(dict[str, Tensor]):
    """Tensors by the names that ComfyUI's loader knows.

    Attributes:
        path: the same LoRA in the published format.
    """

    def __init__(self, tensors: dict[str, Tensor], path: Path) -> None:
        super().__init__(tensors)
        self.path = path


def lora_value(adapter: TrainedAdapter, path: Path) -> TrainedLora:
    """What was trained as a LORA_MODEL.

    Args:
        adapter: trained.
        path: its file.
    """
    tensors: dict[str, Tensor] = {}
    for key, branch in adapter.branches.items():
        name = _name(key)
        for part, value in _parts(branch.plain(), branch.weight).items():
            sizes = value.shape + branch.taps if part in _WHOLE else value.shape
            tensors[f"{name}.{part}"] = value.reshape(sizes)
    return TrainedLora({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path)


def _parts(plain: PlainBranch, weight: Tensor) -> dict[str, Tensor]:
    """One layer's tensors; scaled both ways it is the whole difference, which no pair can say."""
    if plain.rows is not None and plain.columns is not None:
        changed = weight + plain.up @ plain.down
        changed *= (plain.rows / weight.norm(dim=1))[:, None]
        changed *= plain.columns / changed.norm(dim=0)
        return {"diff": changed - weight}
    pair = {"lora_up.weight": plain.up, "lora_down.weight": plain.down}
    if plain.rows is not None:
        pair["dora_scale"] = plain.rows[:, None]
    if plain.columns is not None:
        pair["dora_scale"] = plain.columns[None]
    return pair


def _name(key: str) -> str:
    path = key.removesuffix(".weight")
    if path.startswith(CONDITIONER_PREFIX):
        return path
    return f"diffusion_model.{path.removeprefix(DIT_PREFIX)}"


def file_of(lora: Any) -> Path:
    """A file that holds a LORA_MODEL; of another node's one is made in the temporary folder.

    Raises:
        InputError: it is no LORA_MODEL, or an empty one.
        CheckpointError: another node's holds values that are not finite.
    """
    if isinstance(lora, TrainedLora):
        return lora.path
    sound = isinstance(lora, dict) and all(isinstance(v, Tensor) for v in lora.values())
    if not sound or not lora:
        raise InputError("This is no trained LoRA. Connect the lora output of a training node.")
    check_finite(lora, "The trained LoRA")
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in lora.items()})
    name = f"sa3_lora_{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
    path = Path(folder_paths.get_temp_directory()) / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as whole:
            whole.file.write(data)
    return path
