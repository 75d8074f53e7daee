"""Several LoRAs made into one LoRA file that does the same as all of them together.

That is possible where each only adds to the weights: pairs are put side by side, so that their
ranks add up; all else becomes a difference. What depends on the weight itself (magnitudes,
`dora_scale`, GLoRA, OFT, BOFT, replaced weights, singular vectors) needs a model to be merged into.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ..errors import AdapterError, InputError
from ..files.published import CONDITIONER_PREFIX, DIT_PREFIX
from ..files.whole_file import Place, name_of, whole_file, write_failure
from .build import unused_note
from .changes import Added
from .file import AdapterFile
from .kinds import GLoRA, Sizes
from .layer import Layer, Layers, LayerTensors, OtherLayer
from .merge import check_always, describe_use
from .rotations import BOFT, OFT
from .rules import LowRank
from .use import AdapterUse

log = logging.getLogger(__name__)

COMBINED_NOTE = "sa3_combined_loras"  # metadata entry, a JSON list


@dataclass(eq=False)
class _Sum:
    """What all LoRAs add to one weight, bias or gain."""

    pairs: list[LowRank] = field(default_factory=list)  # scaled
    difference: Tensor | None = None

    def add(self, layer: Layer, strength: float) -> None:
        """Take in a layer that `_only_adds`."""
        if isinstance(layer, Layers):
            for part in layer.parts:
                self.add(part, strength)
        elif isinstance(layer, LayerTensors) and layer.low_rank is not None:
            pair = layer.low_rank
            self.pairs.append(LowRank(pair.a.float(), pair.b.float() * (layer.scale * strength)))
        elif isinstance(layer, OtherLayer) and isinstance(layer.made, Added):
            update, scale = layer.made.update, layer.made.scale * strength
            made = update.difference(torch.zeros(()), 1.0) * scale
            before = self.difference
            self.difference = made if before is None else before + made.reshape(before.shape)

    def tensors(self, key: str) -> dict[str, Tensor]:
        """As ComfyUI's own trainer names them."""
        path = _path(key)
        if self.pairs and self.difference is None:
            up = torch.cat([pair.b for pair in self.pairs], dim=1)
            down = torch.cat([pair.a for pair in self.pairs])
            rank = torch.tensor(float(down.shape[0]))
            pair = {"lora_up.weight": up, "lora_down.weight": down, "alpha": rank}
            return {f"{path}.{name}": tensor for name, tensor in pair.items()}
        assert self.difference is not None
        whole = self.difference
        for pair in self.pairs:
            whole = whole + (pair.b @ pair.a).reshape(whole.shape)
        if key.endswith(".bias"):
            return {f"{path.removesuffix('.bias')}.diff_b": whole}
        return {f"{path}.diff": whole}


def combine_adapters(items: Sequence[AdapterUse[AdapterFile]], out: Place) -> Path:
    """Write one LoRA file that does what several do together, each at its strength.

    Args:
        items: LoRAs; their order does not matter, layer filters and strengths are worked in.
        out: a .safetensors file; an existing file is replaced once the new one is complete, other
            names claimed.

    Returns:
        The file written: float32, keys that LoRA Loader and ComfyUI's own loader read.

    Raises:
        AdapterError: a LoRA that does more than add to weights, or nothing is left to write.
        InputError: `out` is no .safetensors file; a LoRA acts only at some noise levels.
    """
    if name_of(out).suffix != ".safetensors":
        raise InputError(f"{name_of(out).name}: a LoRA file ends in .safetensors.")
    check_always(items)
    sums = _sums(items)
    tensors = {name: t for key, one in sums.items() for name, t in one.tensors(key).items()}
    if not tensors:
        raise AdapterError("Nothing is left to write: every strength is 0. Raise one.")
    notes = json.dumps([describe_use(item) for item in items])
    data = save({name: t.contiguous() for name, t in tensors.items()}, {COMBINED_NOTE: notes})
    try:
        with whole_file(out) as whole:
            whole.file.write(data)
    except OSError as error:
        raise AdapterError(write_failure(out, error)) from error
    return whole.path


def _sums(items: Sequence[AdapterUse[AdapterFile]]) -> dict[str, _Sum]:
    """What all of them add, by checkpoint key."""
    sums: dict[str, _Sum] = {}
    shapes: dict[str, tuple[str, Sizes]] = {}
    for item in items:
        file = item.lora
        if file.unused:
            log.warning("%s: %s", file.name, unused_note(file.unused))
        for key, layer in file.layers.items():
            strength = item.strength_for(key)
            if strength == 0:
                continue
            if not _only_adds(layer):
                raise AdapterError(
                    f"{file.name} ({layer.kind}) does more than add to the weights, so it cannot "
                    "be made into one LoRA with others. Merge it into a model instead."
                )
            other, shape = shapes.setdefault(key, (file.name, layer.shape))
            if shape != layer.shape:
                raise AdapterError(
                    f"{other} and {file.name} were trained on different models: {key} is "
                    f"{list(shape)} in one and {list(layer.shape)} in the other."
                )
            sums.setdefault(key, _Sum()).add(layer, strength)
    return sums


def _only_adds(layer: Layer) -> bool:
    """Whether what a layer does is the same for every weight and in proportion to the strength."""
    if isinstance(layer, Layers):
        return all(_only_adds(part) for part in layer.parts)
    if isinstance(layer, LayerTensors):
        return layer.low_rank is not None and not layer.magnitudes
    change = layer.made if isinstance(layer, OtherLayer) else None
    if not isinstance(change, Added) or change.dora_scale is not None:
        return False
    return not isinstance(change.update, GLoRA | OFT | BOFT)


def _path(key: str) -> str:
    """A parameter's name in the file, from its checkpoint key."""
    path = key.removesuffix(".weight")
    if path.startswith(CONDITIONER_PREFIX):
        return path
    return f"diffusion_model.{path.removeprefix(DIT_PREFIX)}"
