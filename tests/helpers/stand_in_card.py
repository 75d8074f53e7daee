"""A CUDA card that is not there: tensors on it have shapes, dtypes and a device, but no values.

Tensors on the CPU stay real, so that a program's own decisions run; an operation that mixes both
fails as it would on a card, and whatever waits for the card or sends something to it is noted.
Gradients are the one thing that torch computes for no card that it was not built for: for those
there is a card that calls itself `meta`.
"""

from __future__ import annotations

import sys
import traceback
import types
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from sa3_core.networks import attention, integer, layers
from sa3_core.networks.quantised import SCALE
from sa3_core.pipeline import Pipeline

CARD, LEARNING_CARD = torch.device("cuda"), torch.device("meta")
FREE, TOTAL = 8 << 30, 16 << 30  # bytes that the card says it has
_FAKE = FakeTensorMode(allow_non_fake_inputs=True)
_SEND = ("aten._to_copy", "aten.copy_", "aten.to.")
_DEVICE = torch.ops.prim.device.default  # what `tensor.device` is of a tensor without values
_ASK = ("aten._local_scalar_dense", "aten.is_nonzero", "aten.item")


class Card(TorchDispatchMode):
    """Runs operations, those of the card on tensors without values, and notes what it costs.

    Attributes:
        waits: where the program waited until the card had an answer.
        copies: where something was sent to the card.
        operations: how many ran on the card.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.waits: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.operations = 0

    @property
    def cost(self) -> tuple[int, int]:
        """Waits and copies so far."""
        return self.waits.total(), self.copies.total()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # half of all questions: answered before any other work
        kwargs = kwargs or {}
        wanted = _wanted_device(str(func), args, kwargs)
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if not any(map(self._holds, given)) and (wanted is None or wanted.type != self.kind):
            with _disable_current_modes():
                return func(*args, **kwargs)
        self.operations += 1
        return self._run(func, args, kwargs, wanted, given)

    def _holds(self, tensor: Tensor) -> bool:
        return isinstance(tensor, FakeTensor) or tensor.device.type == self.kind

    def _run(self, func, args, kwargs, wanted: torch.device | None, given: list[Tensor]) -> Any:
        name = str(func)
        if name.startswith(_ASK):
            self.waits[f"value @ {_where()}"] += 1
            return _answer(args[0])
        if "nonzero" in name:
            self.waits[f"nonzero @ {_where()}"] += 1
        if name.startswith(_SEND):
            into = args[0] if name.startswith("aten.copy_") else None
            source = args[1] if into is not None else args[0]
            target = into.device if into is not None else wanted or source.device
            self._note_move(source, target)
            if target.type == "cpu" and self._holds(source):
                zeros = _zeros(source.shape, kwargs.get("dtype") or source.dtype)
                return zeros if into is None else into.copy_(zeros)
        if self.kind == "cuda" and not all(isinstance(x, FakeTensor) for x in given):
            args, kwargs = tree_map(_placeless, args), tree_map(_placeless, kwargs)
        made = func(*args, **kwargs)
        return _real_on_cpu(made) if isinstance(made, Tensor) else tree_map(_real_on_cpu, made)

    def _note_move(self, source: Tensor, target: torch.device) -> None:
        if source.device.type == target.type:
            return
        notes = self.copies if target.type == self.kind else self.waits
        notes[f"{source.device.type} to {target.type} {tuple(source.shape)} @ {_where()}"] += 1


def _wanted_device(name: str, args: Any, kwargs: Any) -> torch.device | None:
    """The device that an operation's result is to lie on, where it says so."""
    given = kwargs.get("device") or next((a for a in args if isinstance(a, torch.device)), None)
    if given is None and name == "aten.to.other" and isinstance(args[1], FakeTensor):
        given = args[1].device
    return None if given is None else torch.device(given)


def _answer(tensor: Tensor) -> bool | int | float:
    if tensor.dtype == torch.bool:
        return True
    return 1.0 if tensor.dtype.is_floating_point else 1


def _placeless(value: Any) -> Any:
    """A real tensor as one without values; numbers in a tensor go anywhere, as on a card."""
    plain = isinstance(value, Tensor) and not isinstance(value, FakeTensor) and value.dim() > 0
    return _FAKE.from_tensor(value) if plain else value


def _real_on_cpu(value: Any) -> Any:
    fake = isinstance(value, FakeTensor) and value.fake_device.type == "cpu"
    return _zeros(value.shape, value.dtype) if fake else value


def _zeros(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    with _disable_current_modes():
        return torch.zeros(shape, dtype=dtype)


def _where() -> str:
    """The innermost places of this program."""
    frames = [f for f in traceback.extract_stack() if "/sa3_core/" in f.filename.replace("\\", "/")]
    names = [f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-2:])]
    return " < ".join(names)


@contextmanager
def card(device: torch.device = CARD) -> Iterator[Card]:
    """A card that can be computed on inside of this block; nothing lies on it at first."""
    layers._frequencies.cache_clear()
    try:
        with _FAKE if device == CARD else nullcontext(), Card(device.type) as mode:
            yield mode
    finally:
        layers._frequencies.cache_clear()  # a real card may be used after this one


def on_card(value: Tensor, dtype: torch.dtype | None = None, device: torch.device = CARD) -> Tensor:
    """A tensor like this one on the card; a dtype is meant for fractions."""
    chosen = dtype if dtype and value.is_floating_point() else value.dtype
    with _FAKE if device == CARD else nullcontext():
        return torch.empty(value.shape, dtype=chosen, device=device)


def move(net: nn.Module, dtype: torch.dtype | None = None, device: torch.device = CARD) -> None:
    """Put a net's weights and buffers on the card, in place; scales of 8-bit ones stay float32."""
    for module in net.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                chosen = None if name.endswith(SCALE) else dtype
                there = on_card(parameter, chosen, device)
                module._parameters[name] = nn.Parameter(there, requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = on_card(buffer, None, device)


def pipeline_on_card(pipeline: Pipeline, dtype: torch.dtype) -> Pipeline:
    """Put a pipeline's nets on the card, in place, as `load_pipeline` would with that dtype."""
    text_dtype = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
    move(pipeline.model.dit, dtype)
    move(pipeline.model.conditioner)
    move(pipeline.autoencoder, dtype)
    move(pipeline.text, text_dtype)
    pipeline.model.dit.dtype, pipeline.text.dtype = dtype, text_dtype
    return replace(pipeline, model=replace(pipeline.model, device=CARD, dtype=dtype))


def install(monkeypatch: pytest.MonkeyPatch, flash: bool) -> Counter[str]:
    """Tell the program of a card's memory, and of flash-attn or of none.

    Returns:
        How often each of flash-attn's functions was called.
    """
    calls: Counter[str] = Counter()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (FREE, TOTAL))
    monkeypatch.setattr(attention, "_flash_installed", lambda: flash)

    def check(*tensors: Tensor) -> None:
        assert {t.dtype for t in tensors} <= {torch.float16, torch.bfloat16}
        assert len({t.dtype for t in tensors}) == 1
        assert all(t.is_cuda for t in tensors)

    def whole(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls["whole"] += 1
        assert q.ndim == 4
        check(q, k, v)
        return torch.empty_like(q)

    def segments(q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, n: int, m: int) -> Tensor:
        calls["segments"] += 1
        assert q.ndim == 3
        assert a.dtype == b.dtype == torch.int32
        assert a.is_cuda
        assert b.is_cuda
        check(q, k, v)
        return torch.empty_like(q)

    module = types.ModuleType("flash_attn")
    module.__spec__ = ModuleSpec("flash_attn", None)
    vars(module).update(flash_attn_func=whole, flash_attn_varlen_func=segments)
    monkeypatch.setitem(sys.modules, "flash_attn", module if flash else None)
    return calls


def install_units(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int] = (8, 6),
    cuda: str | None = "12.8",
) -> list[tuple[int, int, int]]:
    """Give the card units for 8-bit products, or take them away.

    Args:
        monkeypatch: of the test.
        capability: of the card.
        cuda: what torch is built for, None on AMD's cards.

    Returns:
        Rows, inputs and outputs of each product; what cuBLAS refuses fails.
    """
    products: list[tuple[int, int, int]] = []
    multiply = torch._int_mm  # pyright: ignore[reportPrivateImportUsage]

    def checked(values: Tensor, columns: Tensor) -> Tensor:
        (rows, width), out = values.shape, columns.shape[1]
        assert values.is_cuda
        assert columns.is_cuda
        assert values.is_contiguous()
        assert columns.t().is_contiguous()
        assert rows > 16
        assert width % 8 == out % 8 == 0
        products.append((rows, width, out))
        return multiply(values, columns)

    monkeypatch.setattr(torch, "_int_mm", checked)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda card: capability)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(integer, "_cards", {})
    monkeypatch.setattr(integer, "_sums_are_exact", lambda card: True)  # there are no values
    return products
