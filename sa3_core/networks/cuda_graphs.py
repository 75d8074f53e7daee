"""CUDA graphs of the net: recorded once per shape, then replayed without the CPU's share of it.

torch.compile's own backend of that name copies all weights at every replay; here they are read
where they lie.
"""

import dataclasses
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .dit import DiffusionTransformer, DiTConstants

log = logging.getLogger(__name__)

WARM_UPS = 2  # libraries choose kernels and get their workspaces in the first calls

Shapes = tuple[tuple[torch.Size, torch.dtype], ...]
Inputs = tuple[Tensor, Tensor, DiTConstants]


def capture(work: Callable[[], Tensor], pool: Any) -> tuple[Callable[[], None], Tensor]:
    """Record what `work` does on the current CUDA device.

    Args:
        work: must neither wait for the device nor move data to or from it.
        pool: memory that recordings share, from `torch.cuda.graph_pool_handle`.

    Returns:
        (replay, out): `replay()` does the work again, into the same tensor `out`.
    """
    current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            work()
    current.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # thread_local: other threads of a host may use the device meanwhile.
    with torch.cuda.graph(graph, pool, aside, capture_error_mode="thread_local"):
        out = work()
    return graph.replay, out


@dataclass
class _Recorded:
    """A graph with the tensors that it reads; `loaded` is what was last copied into them."""

    inputs: Inputs
    replay: Callable[[], None]
    out: Tensor
    loaded: Callable[[], DiTConstants | None]

    def __call__(self, x: Tensor, features: Tensor, constants: DiTConstants) -> Tensor:
        fixed_x, fixed_features, fixed_constants = self.inputs
        fixed_x.copy_(x)
        fixed_features.copy_(features)
        if self.loaded() is not constants:
            for fixed, new in zip(_tensors(fixed_constants), _tensors(constants), strict=True):
                fixed.copy_(new)
            self.loaded = weakref.ref(constants)
        self.replay()
        return self.out


class GraphedVelocity:
    """`DiffusionTransformer.velocity_at` through CUDA graphs.

    Graphs read weights at the addresses of their recording, so all of them are dropped when the
    weights have moved. Where some weights are not on the card (a host streams them), the net runs
    as it is.
    """

    def __init__(self, net: DiffusionTransformer) -> None:
        self._net = net
        self._graphs: dict[Shapes, _Recorded] = {}
        self._addresses: tuple[int, ...] = ()
        self._resident = True
        self._checked: Callable[[], DiTConstants | None] = lambda: None
        self._pool: Any = None

    def __call__(self, x: Tensor, features: Tensor, constants: DiTConstants) -> Tensor:
        """As `velocity_at`; the result is overwritten by the next call."""
        # Other weights come with other constants: a new generation, or LoRAs with an interval.
        if self._checked() is not constants:
            self._check_weights(x.device)
            self._checked = weakref.ref(constants)
        if not self._resident:
            return self._net.velocity_at(x, features, constants)
        shapes = tuple((t.shape, t.dtype) for t in _tensors((x, features, constants)))
        if shapes not in self._graphs:
            self._graphs[shapes] = self._record((x, features, constants))
        return self._graphs[shapes](x, features, constants)

    def _check_weights(self, device: torch.device) -> None:
        weights = list(self._net.parameters())
        self._resident = all(w.device == device for w in weights)
        if not self._resident:
            log.warning("No CUDA graphs: not all weights are on the card.")
        addresses = tuple(w.data_ptr() for w in weights)
        if addresses != self._addresses:
            self._graphs.clear()
            self._addresses = addresses

    # Tensors made in inference mode could not be written to outside of it.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _record(self, inputs: Inputs) -> _Recorded:
        x, features, constants = inputs
        fixed = (x.clone(), features.clone(), _copied(constants))
        with torch.cuda.device(x.device):
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            replay, out = capture(lambda: self._net.velocity_at(*fixed), self._pool)
        return _Recorded(fixed, replay, out, weakref.ref(constants))


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in sequences and dataclasses, in order."""
    if isinstance(value, Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in _tensors(part)]
    return []


def _copied(value: Any) -> Any:
    """The same with a copy of every tensor."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(part) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: _copied(part) for name, part in parts.items()})
    return value
