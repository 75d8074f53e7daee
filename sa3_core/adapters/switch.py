"""Adapters put into a loaded model, some of them only while the noise level is in their interval.

The original weights are kept by reference and come back as they were. Layers of the DiT follow the
interval; those of the conditioner are computed with once per generation, so there an adapter is on
whenever its strength is not 0.

A weight that is stored in 8 bits stays so: adapters act on what it is widened to, at each call.
That rounds nothing twice and takes no memory, at the price of a step's time. Behind a compiler,
which could not follow it, such a layer holds its adapted weight wide instead.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from torch import Tensor, nn

from ..errors import AdapterError, InputError, NotFiniteError
from ..files.published import CONDITIONER_PREFIX, DIT_PREFIX
from ..networks.model import SA3Model
from ..networks.quantised import QuantisedLinear
from .changes import WeightChange
from .use import AdapterUse, Target

Place = tuple[nn.Module, str]  # a parameter's module and its name in there
BuiltUse = AdapterUse[Mapping[str, WeightChange]]


class AdapterSwitch:
    """A `predict.WeightSwitch` over adapters; used as a context manager around `generate`.

        with AdapterSwitch(pipeline.model, uses) as switch:
            generate(pipeline, request, switch=switch)
            switch.set_strength(0.5, "piano.safetensors", "transformer")
            generate(pipeline, request, switch=switch)

    Adapters that meet in a layer are chained in the order given.
    """

    def __init__(self, model: SA3Model, uses: Sequence[BuiltUse]) -> None:
        """Match adapters with the model's layers; nothing is changed yet.

        Raises:
            AdapterError: a key that is no layer of the model.
        """
        self._uses = list(uses)
        self._in_place: tuple[int, ...] | None = None  # what the DiT holds; None = nothing yet
        self._entered = False
        self._dit = _places(model.dit, DIT_PREFIX, self._uses)
        self._conditioner = _places(model.conditioner, CONDITIONER_PREFIX, self._uses)
        places = {**self._dit, **self._conditioner}
        self._originals = {key: owner.get_parameter(n) for key, (owner, n) in places.items()}
        self._wide = model.compiled is not None
        self._dtype = model.dtype
        known = len(set().union(*(use.lora for use in self._uses))) if self._uses else 0
        if known != len(places):
            raise AdapterError(
                f"{known - len(places)} layers of a LoRA are none of {model.name}'s. Was it "
                "trained on another model?"
            )

    def active(self, t: float) -> tuple[int, ...]:
        """Indices of the adapters in force on the DiT at noise level t."""
        return tuple(i for i, use in enumerate(self._uses) if use.acts_at(t) and use.strength)

    def activate(self, key: Hashable) -> None:
        """Put exactly those adapters into the DiT; `key` is what `active` returned."""
        assert isinstance(key, tuple)
        self._put(self._dit, [self._uses[i] for i in key])
        self._in_place = key

    def set_strength(
        self, strength: float, lora: int | str | None = None, target: Target = "all"
    ) -> None:
        """Change strengths on the loaded model; nothing is read again.

        Args:
            strength: finite; may be negative, 0 = off.
            lora: its place in the list (from 0) or its name, with or without suffix; None = all.
            target: `transformer`, `conditioner` (the duration embedding), or `all`.

        Raises:
            InputError: no such LoRA, a name that several have, or no such target.
        """
        chosen = range(len(self._uses)) if lora is None else [self._index(lora)]
        for index in chosen:
            self._uses[index] = self._uses[index].at(strength, target)
        if self._entered:
            self._put(self._conditioner, self._uses)
        if self._in_place is not None:
            self.activate(tuple(i for i in self._in_place if self._uses[i].strength))

    @property
    def strengths(self) -> tuple[tuple[str, float, float], ...]:
        """Name and strengths for transformer and conditioner of every LoRA, in order."""
        return tuple(
            (
                use.name,
                use.strength,
                use.strength if use.strength_conditioner is None else use.strength_conditioner,
            )
            for use in self._uses
        )

    def _index(self, lora: int | str) -> int:
        names = [use.name for use in self._uses]
        if isinstance(lora, str):
            found = [i for i, name in enumerate(names) if lora in (name, Path(name).stem)]
        else:
            found = [lora] if 0 <= lora < len(names) else []
        if len(found) == 1:
            return found[0]
        known = ", ".join(f"{i} {name}".strip() for i, name in enumerate(names)) or "none"
        fault = "several have that name" if found else "there is none"
        raise InputError(f"is {lora!r}; {fault}. Known: {known}. Give its number.", "lora")

    def __enter__(self) -> "AdapterSwitch":
        """Put the adapters into the conditioner."""
        self._put(self._conditioner, self._uses)
        self._entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the original weights back.

        Raises:
            NotFiniteError: the block's, with the LoRAs on the model and their strengths added.
        """
        self._put({**self._dit, **self._conditioner}, ())
        self._in_place, self._entered = None, False
        if isinstance(error, NotFiniteError) and self._uses:
            names = ", ".join(f"{use.name} at {use.strength:g}" for use in self._uses)
            raise NotFiniteError(f"{error} On the model: {names}.") from error

    def _put(self, places: Mapping[str, Place], uses: Iterable[BuiltUse]) -> None:
        chosen = list(uses)
        for key, (module, name) in places.items():
            original, acting = self._originals[key], _acting(key, chosen)
            layer = module if isinstance(module, QuantisedLinear) and name == "weight" else None
            if layer is not None and not self._wide:
                here = [(lora.to(original.device), strength) for lora, strength in acting]
                layer.change = partial(_chained, acting=here) if here else None
                continue
            setattr(module, name, original)
            if acting:
                wide = original if layer is None else layer.widened(self._dtype)
                setattr(module, name, nn.Parameter(_chained(wide, acting), False))


def _acting(key: str, uses: Iterable[BuiltUse]) -> list[tuple[WeightChange, float]]:
    """What acts on a weight, and how strongly."""
    pairs = [(use.lora[key], use.strength_for(key)) for use in uses if key in use.lora]
    return [pair for pair in pairs if pair[1] != 0]


def _chained(original: Tensor, acting: Iterable[tuple[WeightChange, float]]) -> Tensor:
    """W -> f1(W) -> f2(f1(W)); `original` itself when nothing acts on it."""
    weight = original
    for lora, strength in acting:
        weight = lora.apply(weight, strength)
    return weight


def _places(net: nn.Module, prefix: str, uses: Sequence[BuiltUse]) -> dict[str, Place]:
    """Weights, biases and gains of a net that any adapter changes, by checkpoint key."""
    found: dict[str, Place] = {}
    for path, _ in net.named_parameters():
        if any(prefix + path in use.lora for use in uses):
            owner, _, name = path.rpartition(".")
            found[prefix + path] = (net.get_submodule(owner), name)
    return found
