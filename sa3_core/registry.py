"""Ordered tables of named things (samplers, shifts, ...) that explain unknown names."""

from collections.abc import Callable
from typing import Generic, TypeVar

from .errors import UnknownNameError

T = TypeVar("T")

AUTO = "auto"  # beside a table's names: decided from the model, its file or the machine


class Registry(Generic[T]):
    """An ordered name table. `kind` names the family in error messages."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def add(self, *names: str) -> Callable[[T], T]:
        """Decorator that files the decorated thing under its name and any others it goes by."""
        for name in names:
            if name in self._items:
                raise RuntimeError(f"{self.kind} {name!r} is registered twice")

        def file(item: T) -> T:
            self._items.update(dict.fromkeys(names, item))
            return item

        return file

    def __getitem__(self, name: str) -> T:
        if name not in self._items:
            raise UnknownNameError(self.kind, name, self._items)
        return self._items[name]

    @property
    def names(self) -> list[str]:
        """Names in the order of registration."""
        return list(self._items)
