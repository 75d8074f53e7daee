"""int8 by comfy_kitchen's kernels: its own registry, with a kernel for a card that is not there."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.stand_in_card import card, on_card
from tests.nodes.sockets.test_management import sample
from tests.nodes.sockets.test_quantised import LAYER, quantised, snr_db


@pytest.fixture(scope="module")
def module(bridge):
    return importlib.import_module("sa3_pack.nodes.bridge.sockets.quantised")


@pytest.fixture(autouse=True)
def integers(bridge, monkeypatch):
    """The core's module, on a processor that multiplies integers."""
    core = importlib.import_module("sa3_pack.sa3_core.networks.integer")
    monkeypatch.setattr(core, "IN_INTEGERS", True)
    monkeypatch.setattr(core, "BFLOAT16_IS_FASTER", False)
    return core


@pytest.fixture
def registry(module, monkeypatch):
    """comfy_kitchen's own, as after this test it shall be again; cards of 8.6."""
    found = module._quant_ops.ck.registry
    for name in ("_backends", "_capabilities", "_constraints", "_unavailable", "_disabled"):
        monkeypatch.setattr(found, name, getattr(found, name).copy())
    monkeypatch.setitem(found.__dict__, "_compute_capability", (8, 6))
    return found


class Kernel:
    """An implementation for cards, of which tensors on the CPU count as some."""

    def __init__(self, registry: Any, name: str, device: str = "cpu") -> None:
        """Register it under what the real one of that name says of itself."""
        self.shapes: list[tuple[torch.Size, torch.Size]] = []
        backend = importlib.import_module(f"comfy_kitchen.backends.{name}")
        self._eager = importlib.import_module("comfy_kitchen.backends.eager").int8_linear
        says = backend._build_constraints().get("int8_linear")
        if says is None:
            pytest.skip(f"this comfy_kitchen has no {name} kernel for int8")
        here = replace(says, default_devices=frozenset({device}))
        registry.register(name, self, {"int8_linear": here})
        registry.enable(name)

    def int8_linear(
        self,
        x: Tensor,
        weight: Tensor,
        weight_scale: Tensor,
        bias: Tensor | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """What the eager one computes."""
        assert weight_scale.numel() in (1, len(weight))
        assert out_dtype == x.dtype
        self.shapes.append((x.shape, weight.shape))
        if x.is_cuda:
            return torch.empty(*x.shape[:-1], len(weight), dtype=out_dtype, device=x.device)
        return self._eager(x, weight, weight_scale, bias, out_dtype)


@pytest.fixture(params=["cuda", "triton"])
def kernel(registry, request) -> Kernel:
    return Kernel(registry, request.param)


@pytest.fixture
def own(module, monkeypatch) -> list[torch.Size]:
    """Weights that the core multiplied in whole numbers."""
    seen: list[torch.Size] = []
    product = module.integer_linear

    def noted(x: Tensor, weight: Tensor, *rest: Tensor | None) -> Tensor:
        seen.append(weight.shape)
        return product(x, weight, *rest)

    monkeypatch.setattr(module, "integer_linear", noted)
    return seen


@pytest.fixture
def narrowed(bridge, tiny_s):
    return bridge.model.load_patcher(str(tiny_s), "tiny-s", "int8", "auto")


def layers_of_a_step(patcher: Any) -> int:
    """Without those for the prompt, whose few tokens are multiplied once."""
    return sum(".to_kv." not in name for name in quantised(patcher))


def test_the_hosts_kernel_multiplies_every_layer(bridge, narrowed, patcher, prompt, kernel, own):
    found = sample(bridge, narrowed, prompt)
    assert len(kernel.shapes) == 3 * layers_of_a_step(narrowed)
    assert own == []
    assert snr_db(found, sample(bridge, patcher, prompt)) > 30


def test_what_comes_out_is_the_cores_own(bridge, module, narrowed, prompt, kernel, own):
    found = sample(bridge, narrowed, prompt)
    assert kernel.shapes
    kernel.shapes.clear()
    module._quant_ops.ck.registry.disable("cuda")
    module._quant_ops.ck.registry.disable("triton")
    without = sample(bridge, narrowed, prompt)
    assert kernel.shapes == []
    assert len(own) == 3 * layers_of_a_step(narrowed)
    assert snr_db(found, without) > 33  # values on the edge are rounded the other way


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [None, torch.linspace(-1, 1, 48)])
def test_a_layer_by_both(module, integers, kernel, dtype, bias):
    x, weight = torch.randn(2, 20, 64).to(dtype), torch.randn(48, 64)
    values, scale = module.core.quantise(weight, "int8")
    shift = None if bias is None else bias.to(dtype)
    found = module.fused_product(x, values, scale, shift)
    wanted = integers.integer_linear(x, values, scale, shift)
    assert found.dtype == wanted.dtype == dtype
    # The eager one divides in the dtype that it is given.
    assert snr_db(found.float(), wanted.float()) > (48 if dtype == torch.float32 else 38)


def test_cuda_goes_before_triton(registry, module):
    kernels = [Kernel(registry, name) for name in ("triton", "cuda")]
    values, scale = torch.zeros(32, 64, dtype=torch.int8), torch.ones(32, 1)
    assert module.fused_product(torch.zeros(40, 64), values, scale, None) is not None
    assert [len(each.shapes) for each in kernels] == [0, 1]


def older_host(module, monkeypatch):
    """ComfyUI without that package's name."""
    stripped = SimpleNamespace(QuantizedTensor=module._quant_ops.QuantizedTensor)
    monkeypatch.setattr(module, "_quant_ops", stripped)


REFUSALS = {
    "disabled": lambda module, patch: [
        module._quant_ops.ck.registry.disable(name) for name in ("cuda", "triton")
    ],
    "an older card": lambda module, patch: patch.setitem(
        module._quant_ops.ck.registry.__dict__, "_compute_capability", (7, 0)
    ),
    "an older package": lambda module, patch: [
        module._quant_ops.ck.registry._capabilities[name].discard("int8_linear")
        for name in ("cuda", "triton")
        if name in module._quant_ops.ck.registry._capabilities
    ],
    "an older host": older_host,
    "compiling": lambda module, patch: patch.setattr(torch.compiler, "is_compiling", lambda: True),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_where_there_is_none_the_core_multiplies(module, kernel, own, monkeypatch, why):
    tensor = module._quant_ops.QuantizedTensor
    weight = tensor.from_float(torch.randn(32, 64), "TensorWiseINT8Layout", per_channel=True)
    x = torch.randn(40, 64)
    module.multiply(x, weight, None)
    assert (len(kernel.shapes), len(own)) == (1, 0)
    REFUSALS[why](module, monkeypatch)
    found = module.multiply(x, weight, None)
    assert (len(kernel.shapes), len(own)) == (1, 1)
    assert snr_db(found, x @ module.widen(weight).T) > 38


def test_its_eager_form_is_not_used(registry, module, own):
    values, scale = torch.zeros(32, 64, dtype=torch.int8), torch.ones(32, 1)
    for name in ("cuda", "triton"):
        registry.disable(name)
    assert registry.get_capable_backend("int8_linear", {"x": torch.zeros(40, 64)}) == "eager"
    assert module.fused_product(torch.zeros(40, 64), values, scale, None) is None


def test_few_rows_and_gradients_are_widened(module, kernel, own):
    tensor = module._quant_ops.QuantizedTensor
    weight = tensor.from_float(torch.randn(32, 64), "TensorWiseINT8Layout", per_channel=True)
    module.multiply(torch.randn(3, 64), weight, None)
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.randn(40, 64).requires_grad_()
        module.multiply(x, weight.clone(), None).sum().backward()
    assert x.grad is not None
    assert kernel.shapes == own == []


def test_a_patched_layer_goes_its_own_way(bridge, narrowed, patcher, prompt, kernel):
    change = torch.full(dict(narrowed.model.named_parameters())[f"{LAYER}.weight"].shape, 0.05)
    clones = [each.clone() for each in (narrowed, patcher)]
    for clone in clones:
        clone.add_patches({f"{LAYER}.weight": ("diff", (change,))})
    found, wanted = (sample(bridge, clone, prompt) for clone in clones)
    assert kernel.shapes
    assert snr_db(found, wanted) > 27  # rounded a second time
    assert not torch.equal(found, sample(bridge, narrowed, prompt))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_a_card_that_is_not_there(registry, module, integers, own, monkeypatch, dtype):
    """The real terms of the kernel, and nothing that waits for the card."""
    monkeypatch.setattr(torch.cuda, "device_of", lambda tensor: nullcontext())
    monkeypatch.setattr(integers, "_cards", {0: True})
    kernel = Kernel(registry, "cuda", "cuda")

    class Stored:
        """A quantised tensor; the real one cannot hold what has no values."""

        def __init__(self) -> None:
            self.layout_cls = self
            self.dtype = dtype

        def get_plain_tensors(self, weight: Any) -> tuple[Tensor, Tensor]:
            return on_card(torch.zeros(48, 64, dtype=torch.int8)), on_card(torch.ones(48, 1))

    host = SimpleNamespace(QuantizedTensor=Stored, ck=module._quant_ops.ck)
    monkeypatch.setattr(module, "_quant_ops", host)
    with card() as there:
        x, bias = on_card(torch.zeros(2, 20, 64), dtype), on_card(torch.zeros(48), dtype)
        made = module.multiply(x, Stored(), bias)
        few = module.multiply(on_card(torch.zeros(8, 64), dtype), Stored(), bias)
        registry.disable("cuda")
        monkeypatch.setattr(integers, "_products", lambda a, b: torch.ops.aten._int_mm(a, b))
        again = module.multiply(x, Stored(), bias)
    assert kernel.shapes == [((2, 20, 64), (48, 64))]
    assert own == [(48, 64)]
    for each, rows in ((made, (2, 20)), (few, (8,)), (again, (2, 20))):
        assert each.is_cuda
        assert each.dtype == dtype
        assert each.shape == (*rows, 48)
    assert there.cost == (0, 0)
