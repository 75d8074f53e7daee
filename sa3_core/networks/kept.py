"""Results of a block that its second run takes over, where blocks run again on the way back.

A block that keeps its input alone makes every product twice. Some results cost much for what they
take in memory; those are kept in the first run and handed out, in the same order, in the second.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from torch import Tensor

Made = tuple[Tensor | None, ...]
_now: "ContextVar[tuple[list[Made], bool] | None]" = ContextVar("kept", default=None)


def kept_or_made(make: Callable[[], Made], worth: bool) -> Made:
    """What `make` returns, made once for both runs of a block that runs again.

    Args:
        make: tensors that take no part in what autograd records.
        worth: whether to keep it; the same in both runs.
    """
    found = _now.get()
    if found is None or not worth:
        return make()
    results, again = found
    if again:
        return results.pop(0)
    results.append(make())
    return tuple(None if value is None else value.detach() for value in results[-1])


def both_runs() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of the first and the second run of one block."""
    results: list[Made] = []
    return _running(results, False), _running(results, True)


@contextmanager
def _running(results: list[Made], again: bool) -> Iterator[None]:
    token = _now.set((results, again))
    try:
        yield
    finally:
        _now.reset(token)
