"""Where a training step's time and memory go on a CPU, told by the operations that torch runs.

A cause is read off an operation's name and shapes: a product with a side of the rank is a
branch's, one whose rows are all tokens is a layer's, every other is of conditioning and ends.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.autograd import profiler as autograd_profiler
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRODUCTS, ENDS, BRANCHES = "layers' products", "conditioning, ends", "branches' products"
ATTENTION, ATTENTION_BACK = "attention", "attention, back"
OPTIMIZER, REST = "optimizer", "norms, RoPE, gates, sums, copies"
OUTSIDE = "autograd, Python"
LIMIT, BEYOND = "products, limit", "beyond it"
CAUSES = (ENDS, BRANCHES, ATTENTION, ATTENTION_BACK, REST, OPTIMIZER)
_MULTIPLY = ("mm", "addmm", "addmm_", "bmm", "baddbmm")


class _Watch(TorchDispatchMode):
    """Seconds of this thread by cause."""

    def __init__(self, tokens: int, rank: int) -> None:
        super().__init__()
        self.seconds: Counter[str] = Counter()
        self.optimizing = False
        self._tokens, self._rank = tokens, rank

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.thread_time()
        out = func(*args, **(kwargs or {}))
        took = time.thread_time() - start
        shapes = [tuple(value.shape) for value in tree_leaves(args) if isinstance(value, Tensor)]
        cause = OPTIMIZER if self.optimizing else self._cause(func, shapes)
        self.seconds[cause] += took
        return out

    def _cause(self, func: Any, shapes: list[tuple[int, ...]]) -> str:
        name = func.overloadpacket.__name__
        if "attention" in name:
            return ATTENTION_BACK if name.endswith("backward") else ATTENTION
        if name not in _MULTIPLY:
            return REST
        first, second = shapes[-2], shapes[-1]
        if self._rank in (*first, *second):
            return BRANCHES
        return PRODUCTS if first[-2] in (self._tokens, self._tokens + self._rank) else ENDS


def causes(step: Callable[[], None], tokens: int, rank: int) -> Mapping[str, float]:
    """Seconds of a step's operations by cause.

    Args:
        step: forward, back, optimizer.
        tokens: rows of a layer's product.
        rank: of the LoRA; nothing else has that size.
    """
    watch = _Watch(tokens, rank)

    def begins(*_: Any) -> None:
        watch.optimizing = True

    handle = register_optimizer_step_pre_hook(begins)
    try:
        with watch:
            step()
    finally:
        handle.remove()
    return watch.seconds


def budget_head() -> list[str]:
    """The head of the table that `budget_row` writes lines of."""
    names = ("", LIMIT, BEYOND, *CAUSES, OUTSIDE)
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def budget_row(took: Mapping[str, float], whole: float, limit: float, name: str) -> str:
    """Shares of a step.

    Args:
        took: seconds by cause.
        whole: seconds of the step, measured without looking.
        limit: seconds of the layers' products at the machine's rate.
        name: of the step.
    """
    least = min(limit, took[PRODUCTS])
    shares = [least, took[PRODUCTS] - least, *(took.get(cause, 0.0) for cause in CAUSES)]
    shares.append(max(0.0, whole - sum(shares)))
    total = sum(shares)
    return f"| {name} | {' | '.join(f'{share / total:.0%}' for share in shares)} |"


def peak_of_tensors(step: Callable[[], None]) -> float:
    """The most bytes that a step's tensors hold at once beside those that were there."""
    with autograd_profiler.profile(profile_memory=True, use_kineto=True) as profiler:
        step()
    results = profiler.kineto_results  # as they are: the profiler's own view of them takes seconds
    assert results is not None
    now = peak = 0
    for event in results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return float(peak)
