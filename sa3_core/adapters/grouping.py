"""Tensors of a LoRA file by layer and adapter."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from .keys import TensorName, parse_name

_FACTORS = frozenset({"lora_A", "lora_B"})


@dataclass(eq=False)
class Group:
    """What one adapter of a file holds for one layer.

    Attributes:
        path: the layer, as the file writes it.
        adapter: the adapter's name in PEFT's files, mostly empty.
        index: of Stable Audio 3's own style; None in the others.
        roles: role -> tensor.
        names: role -> the tensor's name in the file.
    """

    path: str
    adapter: str = ""
    index: int | None = None
    roles: dict[str, Tensor] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def add(self, role: str, name: str, tensor: Tensor) -> None:
        """Take a tensor in.

        Raises:
            ValueError: the role is taken.
        """
        if role in self.roles:
            raise ValueError(f"{self.names[role]} and {name} are the same tensor of one layer.")
        self.roles[role], self.names[role] = tensor, name

    def named(self, roles: Iterable[str]) -> tuple[str, ...]:
        """Names in the file of some roles."""
        return tuple(self.names[role] for role in roles)


def group_tensors(tensors: Mapping[str, Tensor]) -> tuple[list[Group], list[str]]:
    """Groups in the order of the file, and the names that no style knows.

    Raises:
        ValueError: two tensors of one layer mean the same.
    """
    layers: dict[tuple[str, int | None], dict[str, Group]] = {}
    unknown = []
    for name, tensor in tensors.items():
        found = parse_name(name)
        if found is None:
            unknown.append(name)
        else:
            _group_of(layers, found).add(found.role, name, tensor)
    for adapters in layers.values():
        _share(adapters)
    return [group for adapters in layers.values() for group in adapters.values()], unknown


def _group_of(layers: dict[tuple[str, int | None], dict[str, Group]], name: TensorName) -> Group:
    adapters = layers.setdefault((name.path, name.index), {})
    return adapters.setdefault(name.adapter, Group(name.path, name.adapter, name.index))


def _share(adapters: dict[str, Group]) -> None:
    """Tensors without an adapter's name (alpha, mostly) belong to the adapters that have one."""
    common = adapters.get("")
    if common is None or len(adapters) == 1 or common.roles.keys() & _FACTORS:
        return
    named = [group for name, group in adapters.items() if name]
    shared = list(common.roles) if len(named) == 1 else ["alpha"]
    for role in shared:
        if role in common.roles:
            tensor, name = common.roles.pop(role), common.names.pop(role)
            for group in named:
                group.add(role, name, tensor)
    if not common.roles:
        del adapters[""]
