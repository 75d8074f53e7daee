"""Where the time of a transformer's step goes: its parts' own seconds, by cause.

On a CPU every call ends when its work is done, so a clock around the parts is exact; a part's own
seconds are those that no part inside it has. Reading the clock takes 0.1 % of a step. Where one
thread computes, seconds are those that the processor gave it: what else runs matters little.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

from sa3_core.networks import dit, layers, ops

PRODUCTS, ATTENTION = "matrix products", "attention"
FEW_KEYS = "cross-attention (float32)"
ROTATION = "norm and RoPE of queries and keys (float32)"
NORMS = "norms with AdaLN (float32)"
GATES = "gates"
SUMS = "residual sums (float32)"
LAYOUT = "casts and layouts of heads"
CASTS = "casts between float32 and the products, AdaLN's six vectors"
REST = "sampler, embeddings, ends"

PARTS: tuple[tuple[str, Any, str], ...] = (
    (PRODUCTS, ops.Linear, "forward"),
    (ATTENTION, dit, "attend_valid"),
    (FEW_KEYS, dit, "attend_weighted"),
    (ROTATION, dit, "_norm_and_rotate"),
    (NORMS, dit, "_modulate"),
    (NORMS, layers.RMSNorm, "forward"),
    (GATES, layers.GatedLinear, "forward"),
    (SUMS, dit, "_add"),
    (SUMS, dit, "_add_gated"),
    (SUMS, dit.DiTBlock, "_add_local"),
    (LAYOUT, dit, "merge_heads"),
    (LAYOUT, dit, "heads_first"),
    (LAYOUT, dit.SelfAttention, "forward"),
    (LAYOUT, dit.CrossAttention, "forward"),
    (CASTS, dit.DiTBlock, "forward"),
)


def reader() -> Callable[[], float]:
    """What tells the seconds: the thread's own where it computes alone, else the wall's."""
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


class Clock:
    """Own seconds by cause."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.now = reader()
        self._inner = [0.0]  # of each call that is running: seconds of parts inside it

    def timed(self, cause: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, its own seconds counted for a cause."""

        def run(*args: Any, **how: Any) -> Any:
            self._inner.append(0.0)
            start = self.now()
            try:
                return work(*args, **how)
            finally:
                took = self.now() - start
                self.seconds[cause] += took - self._inner.pop()
                self._inner[-1] += took

        return run


@contextmanager
def clocked(parts: tuple[tuple[str, Any, str], ...] = PARTS) -> Iterator[Clock]:
    """Count the seconds of parts while the block runs.

    Args:
        parts: cause, what holds the function, its name there.
    """
    clock = Clock()
    with ExitStack() as stack:
        for cause, owner, name in parts:
            work = clock.timed(cause, getattr(owner, name))
            stack.enter_context(patch.object(owner, name, work))
        yield clock
