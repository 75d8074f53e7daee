"""A LoRA as a weight patch of ComfyUI's patcher, with an optional interval of noise levels.

Intervals: a patch with an interval does nothing by itself. For a set of active intervals a clone of
the patcher is made in which just those patches act; loading it swaps the weights. SA3 Sampler
does so per group of items, stock samplers through a wrapper around the model call.
"""

import math
from collections.abc import Iterable
from typing import Any

import comfy.model_management as mm
import comfy.patcher_extension
import comfy.weight_adapter
import torch
from torch import Tensor

from ....sa3_core.adapters.changes import WeightChange
from ....sa3_core.adapters.packing import unpack
from ....sa3_core.checks import level_within
from .loose_patch import is_loose, loose_changes, set_loose

INTERVAL_KEY = "sa3_lora_interval"
Gate = tuple[str, float, float]  # id of the loader's LoRA, lowest and highest noise level
ActiveSet = frozenset[str]


class SA3Adapter(comfy.weight_adapter.WeightAdapterBase):
    """W -> W' by the core's formula.

    The constructor's signature is the host's contract: it moves the tensors inside `weights` and
    builds the adapter again from them.

    Attributes:
        weights: (what WeightChange.pack gives, gate or None).
    """

    name = "sa3"
    weights: Any  # the host declares tensors

    def __init__(self, loaded_keys: set[str], weights: tuple[Any, Gate | None]) -> None:
        self.loaded_keys, self.weights = loaded_keys, weights

    @classmethod
    def of(cls, change: WeightChange, gate: Gate | None) -> "SA3Adapter":
        """Wrap what one LoRA does to one weight."""
        return cls(set(), (change.pack(), gate))

    @property
    def gate(self) -> Gate | None:
        """Interval in which the patch acts, None = always."""
        return self.weights[1]

    def always(self) -> "SA3Adapter":
        """The same without its gate."""
        return SA3Adapter(self.loaded_keys, (self.weights[0], None))

    def calculate_weight(
        self,
        weight: Tensor,
        key: str,
        strength: float,
        strength_model: float,
        offset: Any,
        function: Any,
        intermediate_dtype: torch.dtype = torch.float32,
        original_weight: Any = None,
    ) -> Tensor:
        """Patch `weight` in place; a gated adapter leaves it as it is."""
        if self.gate is not None or strength == 0:
            return weight
        change: WeightChange = unpack(self.weights[0])
        return weight.copy_(change.apply(weight, strength))


def add_change(
    patcher: Any, key: str, change: WeightChange, strength: float, gate: Gate | None
) -> None:
    """Patch one parameter of a MODEL, be it a layer's or not."""
    adapter = SA3Adapter.of(change, gate)
    if is_loose(patcher, key):
        changes = loose_changes(patcher)
        set_loose(patcher, {**changes, key: (*changes.get(key, ()), (strength, adapter))})
        patcher.add_patches({})  # gives it an identity of its own
    else:
        patcher.add_patches({key: adapter}, strength)


def gates(patcher: Any) -> dict[str, tuple[float, float]]:
    """Interval of every gated LoRA on a patcher, by id."""
    found: dict[str, tuple[float, float]] = {}
    for entries in (*patcher.patches.values(), *loose_changes(patcher).values()):
        for entry in entries:
            if isinstance(entry[1], SA3Adapter) and entry[1].gate is not None:
                name, low, high = entry[1].gate
                found[name] = (low, high)
    return found


class PatcherSets:
    """Patchers of one MODEL by the set of LoRAs that are active, loaded on demand."""

    def __init__(self, patcher: Any, memory: float) -> None:
        self._patcher, self._memory = patcher, memory
        self._made: dict[ActiveSet, Any] = {frozenset(): patcher}
        self.intervals = gates(patcher)

    def active(self, t: float) -> ActiveSet:
        """Which set of weights is in force at noise level t."""
        level = torch.tensor(t)
        inside = (name for name, pair in self.intervals.items() if level_within(level, pair))
        return frozenset(inside)

    def activate(self, key: ActiveSet) -> None:
        """Put that set's weights in place."""
        if key not in self._made:
            self._made[key] = _opened_clone(self._patcher, key)
        chosen = self._made[key]
        current = getattr(chosen.model, "current_weight_patches_uuid", None)
        if current != chosen.patches_uuid:
            mm.load_models_gpu([chosen], memory_required=math.ceil(self._memory))


def _opened_clone(patcher: Any, active: ActiveSet) -> Any:
    """A clone in which the gated patches of `active` act."""
    clone = patcher.clone()
    patches = {key: [_opened(e, active) for e in entries] for key, entries in clone.patches.items()}
    clone.patches = patches
    loose = loose_changes(clone).items()
    set_loose(clone, {key: tuple(_opened(e, active) for e in entries) for key, entries in loose})
    clone.add_patches({})  # gives the clone an identity of its own
    return clone


def _opened(entry: tuple[Any, ...], active: Iterable[str]) -> tuple[Any, ...]:
    value = entry[1]
    if isinstance(value, SA3Adapter) and value.gate is not None and value.gate[0] in active:
        return (entry[0], value.always(), *entry[2:])
    return entry


def add_interval_wrapper(patcher: Any) -> None:
    """Let stock samplers follow the intervals: weights are swapped before a call that needs it."""
    wrappers = comfy.patcher_extension.WrappersMP.APPLY_MODEL
    patcher.remove_wrappers_with_key(wrappers, INTERVAL_KEY)
    made: dict[int, PatcherSets] = {}

    def follow(executor: Any, x: Tensor, t: Tensor, *args: Any, **kwargs: Any) -> Any:
        model = executor.class_obj
        current = model.current_patcher
        if current is None:
            return executor(x, t, *args, **kwargs)
        if id(current) not in made:
            made.clear()
            made[id(current)] = PatcherSets(current, model.memory_required(list(x.shape)))
        sets = made[id(current)]
        options = next((a for a in args if isinstance(a, dict) and "sigmas" in a), {})
        options = kwargs.get("transformer_options", options)
        sigma = options.get("sigmas", t).flatten()[0].float()
        sets.activate(sets.active(float(sigma)))
        return executor(x, t, *args, **kwargs)

    patcher.add_wrapper_with_key(wrappers, INTERVAL_KEY, follow)
