"""Changes of weights as nested tuples: a host moves the tensors inside and builds them again."""

from dataclasses import fields
from typing import Any, ClassVar


class Packable:
    """A frozen dataclass over tensors, plain values, others of its kind, or tuples of these."""

    _kinds: ClassVar[dict[str, type["Packable"]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        Packable._kinds[cls.__name__] = cls

    def pack(self) -> tuple[Any, ...]:
        """The whole of it as nested tuples of tensors and plain values (see `unpack`)."""
        values = (getattr(self, field.name) for field in fields(self))  # pyright: ignore[reportArgumentType]
        return (type(self).__name__, *(_packed(value) for value in values))


def unpack(packed: Any) -> Any:
    """Rebuild what `pack` took apart; lists stand for tuples."""
    if not isinstance(packed, tuple | list):
        return packed
    if packed and isinstance(packed[0], str):
        return Packable._kinds[packed[0]](*map(unpack, packed[1:]))
    return tuple(map(unpack, packed))


def _packed(value: Any) -> Any:
    if isinstance(value, Packable):
        return value.pack()
    return tuple(map(_packed, value)) if isinstance(value, tuple) else value
