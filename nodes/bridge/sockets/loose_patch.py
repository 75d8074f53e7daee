"""Changes of parameters that belong to no layer: gains of norms, tokens, the padding embedding.

ComfyUI's patchers stream and patch layers. What lies beside them is patched by one kind of patcher
if it happens to fit, by the other never, and neither says so. Here it is changed right after every
load; the original goes where the host puts the weights back from.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import comfy.patcher_extension
import comfy.utils
from torch import Tensor, nn

LOOSE = "sa3_loose_changes"
Entry = tuple[float, Any]  # strength and SA3Adapter


class Kept(NamedTuple):
    """An original, in the form of the host's own backups."""

    weight: Tensor
    inplace_update: bool


def is_loose(patcher: Any, key: str) -> bool:
    """Whether a parameter belongs to no layer that the host streams."""
    owner = patcher.model.get_submodule(key.rpartition(".")[0])
    return not hasattr(owner, "comfy_cast_weights")


def loose_changes(patcher: Any) -> Mapping[str, tuple[Entry, ...]]:
    """Changes by the parameter's key, in order."""
    return patcher.get_attachment(LOOSE) or {}


def set_loose(patcher: Any, changes: Mapping[str, tuple[Entry, ...]]) -> None:
    """Let a patcher make these changes whenever it is loaded."""
    on_load = comfy.patcher_extension.CallbacksMP.ON_LOAD
    patcher.remove_callbacks_with_key(on_load, LOOSE)
    patcher.set_attachments(LOOSE, changes)
    if changes:
        patcher.add_callback_with_key(on_load, LOOSE, _change)


def _change(patcher: Any, *_settings: Any) -> None:
    """Put the changed parameters in place of the original ones."""
    for key, entries in loose_changes(patcher).items():
        live: Tensor = comfy.utils.get_attr(patcher.model, key)
        original = patcher.backup[key].weight if key in patcher.backup else live
        if key not in patcher.backup:
            patcher.backup[key] = Kept(original, False)
        value = original.detach().to(live, copy=True)
        for strength, adapter in entries:
            value = adapter.calculate_weight(value, key, strength, 1.0, None, None)
        comfy.utils.set_attr(patcher.model, key, nn.Parameter(value, requires_grad=False))
