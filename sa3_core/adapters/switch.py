"""Adapters put into a loaded model, some of them only while the noise level is in their interval.

The original weights are kept by reference and come back as they were. Layers of the DiT follow the
interval; those of the conditioner are computed with once per generation, so there an adapter is on
whenever its strength is not 0.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import torch
from torch import Tensor, nn

from ..errors import AdapterError, InputError
from ..files.published import CONDITIONER_PREFIX, DIT_PREFIX
from ..networks.model import SA3Model
from .layer_filter import LayerFilter
from .rules import AdapterWeight

ALWAYS = (0.0, 1.0)


@dataclass(frozen=True)
class AdapterUse:
    """An adapter and how it is to be used.

    Attributes:
        weights: checkpoint key of a weight -> what the adapter does to it.
        strength: for all layers.
        interval: lowest and highest noise level, inclusive, at which it acts on the DiT.
        layers: which layers it acts on.
    """

    weights: Mapping[str, AdapterWeight] = field(repr=False)
    strength: float = 1.0
    interval: tuple[float, float] = ALWAYS
    layers: LayerFilter = field(default_factory=LayerFilter)

    def __post_init__(self) -> None:
        low, high = self.interval
        if not 0 <= low <= high <= 1:
            raise InputError(
                f"LoRA interval is {low:g}-{high:g}; it must lie within 0-1 and go up "
                "(noise level: 1 = noise, 0 = data)."
            )

    def acts_at(self, t: float) -> bool:
        """Whether t, a float32 number, lies in the interval."""
        # Bounds rounded as t was, so that 0.7 includes 0.7.
        low, high = torch.tensor(self.interval, dtype=torch.float32).tolist()
        return low <= t <= high


class AdapterSwitch:
    """A `predict.WeightSwitch` over adapters; used as a context manager around `generate`.

        with AdapterSwitch(pipeline.model, uses) as switch:
            generate(pipeline, request, switch=switch)

    Adapters that meet in a layer are chained in the order given.
    """

    def __init__(self, model: SA3Model, uses: Sequence[AdapterUse]) -> None:
        """Match adapters with the model's layers; nothing is changed yet.

        Raises:
            AdapterError: a key that is no layer of the model.
        """
        self._uses = tuple(uses)
        self._dit = _modules(model.dit, DIT_PREFIX, self._uses)
        self._conditioner = _modules(model.conditioner, CONDITIONER_PREFIX, self._uses)
        modules = {**self._dit, **self._conditioner}
        self._originals = {key: m.get_parameter("weight") for key, m in modules.items()}
        known = len(set().union(*(use.weights for use in self._uses))) if self._uses else 0
        if known != len(modules):
            raise AdapterError(
                f"{known - len(modules)} layers of a LoRA are none of {model.name}'s. Was it "
                "trained on another model?"
            )

    def active(self, t: float) -> tuple[int, ...]:
        """Indices of the adapters in force on the DiT at noise level t."""
        return tuple(i for i, use in enumerate(self._uses) if use.acts_at(t) and use.strength)

    def activate(self, key: Hashable) -> None:
        """Put exactly those adapters into the DiT; `key` is what `active` returned."""
        assert isinstance(key, tuple)
        self._put(self._dit, [self._uses[i] for i in key])

    def __enter__(self) -> "AdapterSwitch":
        """Put the adapters into the conditioner."""
        self._put(self._conditioner, self._uses)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the original weights back."""
        self._put({**self._dit, **self._conditioner}, ())

    def _put(self, modules: Mapping[str, nn.Module], uses: Iterable[AdapterUse]) -> None:
        chosen = list(uses)
        for key, module in modules.items():
            original = self._originals[key]
            weight = _chained(original, key, chosen)
            changed = weight is not original
            module.weight = nn.Parameter(weight, False) if changed else original


def _chained(original: Tensor, key: str, uses: Iterable[AdapterUse]) -> Tensor:
    """W -> f1(W) -> f2(f1(W)); `original` itself when nothing acts on it."""
    weight = original
    for use in uses:
        if key in use.weights and use.layers.matches(key):
            weight = use.weights[key].apply(weight, use.strength)
    return weight


def _modules(net: nn.Module, prefix: str, uses: Sequence[AdapterUse]) -> dict[str, nn.Module]:
    """Modules of a net that any adapter has a weight for, by checkpoint key."""
    keys = {f"{prefix}{path}.weight": path for path, _ in net.named_modules() if path}
    wanted = [key for key in keys if any(key in use.weights for use in uses)]
    return {key: net.get_submodule(keys[key]) for key in wanted}
