"""int8 in whole numbers on a CUDA card: its values on the CPU, all else on a card not there.

Nothing here says how fast it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sa3_core.adapters.loading import load_adapters
from sa3_core.adapters.switch import AdapterSwitch
from sa3_core.adapters.use import AdapterUse
from sa3_core.checkpoints.load import load_model
from sa3_core.networks import integer, placement
from sa3_core.networks.compiled import compile_dit
from sa3_core.networks.config import DiTConfig
from sa3_core.networks.dit import DiffusionTransformer
from sa3_core.networks.integer import integer_linear, integers_pay
from sa3_core.networks.placement import dit_memory
from sa3_core.networks.quantised import QuantisedLinear, quantise, quantise_layers, widen
from sa3_core.pipeline import Pipeline, generate, load_pipeline
from tests.core.networks.test_cuda_graphs import Tape, recordings  # noqa: F401 - a fixture
from tests.core.networks.test_placement import filled, traced_peak
from tests.core.networks.test_quantised import draw, lora, sampled, snr_db
from tests.core.test_card import DTYPES, MODES, costs
from tests.helpers.stand_in_card import (
    card,
    install,
    install_units,
    move,
    on_card,
    pipeline_on_card,
)
from tests.helpers.support import golden_path, rel_l2, tiny_checkpoint

LEAST_DB = 30.0  # of latents over their difference from those with widened weights
CPU = torch.device("cpu")


@pytest.fixture
def as_on_card(monkeypatch) -> list[int]:
    """The CPU computes as a card does; the number of rows of each layer that it was given."""
    seen: list[int] = []

    def noted(out: Tensor, rows: Tensor, *rest: Tensor | None) -> None:
        seen.append(len(rows))
        integer._at_once(out, rows, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(integer, "IN_INTEGERS", True)
    monkeypatch.setattr(integer, "BFLOAT16_IS_FASTER", False)
    monkeypatch.setattr(integer, "_by_blocks", noted)
    return seen


@pytest.mark.parametrize("dtype", DTYPES.values())
@pytest.mark.parametrize("bias", [None, draw(96, seed=3)])
@pytest.mark.parametrize("sums", [integer.SUMS_AT_ONCE, 96 * 100])
def test_its_arithmetic_is_that_of_a_cpu(monkeypatch, dtype: torch.dtype, bias, sums: int) -> None:
    weight, scale = quantise(draw(96, 64), "int8")
    x = (draw(2, 300, 64, seed=1) * torch.logspace(-2, 2, 300)[:, None]).to(dtype)
    x[1, 7] = 0
    shift = None if bias is None else bias.to(dtype)
    wanted = integer_linear(x, weight, scale, shift)
    monkeypatch.setattr(integer, "SUMS_AT_ONCE", sums)
    monkeypatch.setattr(integer, "_by_blocks", integer._at_once)
    for given in (x, x.transpose(1, 2).contiguous().transpose(1, 2)):  # rows side by side, too
        found = integer_linear(given, weight, scale, shift)
        assert found.dtype == dtype
        assert rel_l2(found, wanted) < 1e-6
    widened = torch.nn.functional.linear(x, widen(weight, scale, dtype), shift)
    assert 38 < snr_db(found.float(), widened.float()) < 60


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_latents_are_those_of_a_cpu_and_near_those_of_widened_weights(
    monkeypatch, dtype: torch.dtype, as_on_card: list[int]
) -> None:
    model = load_model(tiny_checkpoint("tiny-s"), dtype=dtype, storage="int8")
    found = sampled(model, steps=4)
    assert len(as_on_card) > 4 * 8
    with monkeypatch.context() as patch:
        patch.setattr(integer, "IN_INTEGERS", False)
        widened = sampled(model, steps=4)
    assert LEAST_DB < snr_db(found, widened) < 60
    monkeypatch.undo()
    monkeypatch.setattr(integer, "IN_INTEGERS", True)
    monkeypatch.setattr(integer, "BFLOAT16_IS_FASTER", False)
    assert rel_l2(found, sampled(model, steps=4)) < 1e-6


@pytest.mark.parametrize("sums", [integer.SUMS_AT_ONCE, 96 * 40])
def test_a_compiler_traces_it_whole(monkeypatch, as_on_card: list[int], sums: int) -> None:
    """What it writes into is taken apart as for a card's compiler."""
    monkeypatch.setattr(integer, "SUMS_AT_ONCE", sums)
    weight, scale = quantise(draw(96, 64), "int8")
    x, bias = draw(2, 35, 64, seed=1).bfloat16(), draw(96, seed=2).bfloat16()

    def layer(x: Tensor) -> Tensor:
        return integer_linear(x, weight, scale, bias) if integers_pay(x, weight) else x

    torch._dynamo.reset()
    monkeypatch.setattr(integer, "_by_blocks", integer._at_once)
    with torch.no_grad():
        found = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=False)(x)
        assert rel_l2(found, layer(x)) < 1e-6
    assert found.shape == (2, 35, 96)


@pytest.mark.parametrize("cards", [{0: True}, {0: False}, {}], ids=str)
def test_a_compiler_takes_the_way_that_the_card_is_known_for(
    monkeypatch, cards: dict[int | None, bool]
) -> None:
    """A card that is not known is not asked then: that would wait for it."""
    monkeypatch.setattr(integer, "_cards", cards.copy())
    seen: list[str] = []

    def note(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Tensor]:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    torch._dynamo.reset()
    with FakeTensorMode(), torch.no_grad():
        x = torch.empty(2, 20, 64, device="cuda", dtype=torch.bfloat16)
        layer = QuantisedLinear(torch.nn.Linear(64, 48, device="cuda", dtype=x.dtype), "int8")
        made = torch.compile(layer, backend=note, fullgraph=True, dynamic=False)(x)
    assert made.shape == (2, 20, 48)
    assert made.dtype == x.dtype
    assert made.is_cuda
    assert any("_int_mm" in name for name in seen) is bool(cards.get(0))
    assert integer._cards == cards


def test_a_graph_of_it_is_replayed(as_on_card: list[int], recordings: list[Tape]) -> None:  # noqa: F811
    model = load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32, storage="int8")
    net = compile_dit(model.dit, model.max_frames, {"backend": "cudagraphs"})
    found = sampled(replace(model, compiled=net), steps=3)
    assert len(recordings) == 1
    assert sum("_int_mm" in str(func) for func, *_ in recordings[0].notes) >= 8
    assert snr_db(found, sampled(model, steps=3)) > LEAST_DB


@pytest.mark.parametrize("most", [integer.SUMS_AT_ONCE, 2048 * 400])
def test_its_sums_are_in_the_estimate(monkeypatch, as_on_card: list[int], most: int) -> None:
    for module in (integer, placement):
        monkeypatch.setattr(module, "SUMS_AT_ONCE", most)
    config = DiTConfig(width=256, depth=2, heads=4, differential=False)
    batch, frames, context = 3, 600, torch.zeros(3, 13, 768)
    x, t = torch.zeros(batch, 256, frames), torch.full((batch,), 0.5)
    peaks = []
    for narrow in (False, True):
        net = DiffusionTransformer(config, device=torch.device("meta"), dtype=torch.float32)
        if narrow:
            quantise_layers(net, "int8")
        filled(net)

        def call(net: DiffusionTransformer = net) -> None:
            bias, duration = torch.zeros(batch, 13), torch.zeros(batch, 768)
            net.velocity(x, t, net.prepare(context, bias, duration, None, None, frames))

        call()
        peaks.append(traced_peak(call))
    assert as_on_card
    place = (batch, frames, torch.float32, torch.device("cuda"), 0)
    more = dit_memory(config, *place, narrow=True) - dit_memory(config, *place)
    sums = min(most, 2048 * batch * (config.memory_tokens + frames))
    assert more == 8 * sums
    # A CPU converts the sums in memory of its own, a card in the kernel that scales them.
    taken = peaks[1] - peaks[0] - 4 * sums
    assert taken < more
    if sums < most:
        assert taken > 0.6 * more


SHORT = [("tiny-s", "bf16"), ("tiny-m", "fp32")]
REST = [(v, d) for v in ("tiny-s", "tiny-m") for d in DTYPES if (v, d) not in SHORT]


@pytest.fixture(
    scope="module",
    params=[*SHORT, *(pytest.param(case, marks=pytest.mark.soak) for case in REST)],
    ids="-".join,
)
def placed(request) -> Iterator[tuple[str, Pipeline]]:
    """An int8 pipeline on the card."""
    variant, precision = request.param
    dtype = DTYPES[precision]
    pipeline = load_pipeline(tiny_checkpoint(variant), dtype=dtype, storage="int8")
    with pytest.MonkeyPatch.context() as patch:
        install(patch, flash=precision != "fp32")
        yield variant, pipeline_on_card(pipeline, dtype)


def narrow_layers(pipeline: Pipeline) -> dict[str, QuantisedLinear]:
    nets = pipeline.model.dit.named_modules()
    return {name: layer for name, layer in nets if isinstance(layer, QuantisedLinear)}


STEPS = 3  # of `costs`


@pytest.mark.parametrize(
    "how", [{}, {"seconds": (1.0, 2.0), "cfg": 4.0, "negative": True}], ids=["plain", "guided"]
)
def test_a_layer_is_one_product_and_waits_for_nothing(placed, monkeypatch, how) -> None:
    _, pipeline = placed
    products = install_units(monkeypatch)
    found = costs(pipeline, sampler="euler", **how)
    assert set(found) == {(0, 0)}
    every_step = [n for n in narrow_layers(pipeline) if not n.endswith("to_kv")]
    # Keys and values of a prompt's few tokens are computed once, by widened weights.
    assert len(products) == STEPS * len(every_step)
    shapes = {layer.weight.shape for layer in narrow_layers(pipeline).values()}
    assert {(out, width) for _, width, out in products} <= shapes


@pytest.mark.soak
def test_a_whole_run(placed, monkeypatch) -> None:
    _, pipeline = placed
    products = install_units(monkeypatch)
    with card() as there:
        made = generate(pipeline, MODES["inpaint"](), noise_seed=1)
    assert made.takes[0].audio.device.type == "cpu"
    assert products
    assert there.waits.total() <= 8, there.waits


CARDS = [
    pytest.param((8, 0), "12.4", True, id="Ampere"),
    pytest.param((8, 9), "13.0", True, id="Ada"),
    pytest.param((12, 0), "12.8", True, id="Blackwell"),
    pytest.param((7, 0), "12.8", False, id="Volta"),
    pytest.param((7, 5), "12.8", False, id="Turing"),
    pytest.param((10, 3), "13.0", False, id="Blackwell Ultra"),
    pytest.param((8, 6), "12.1", False, id="wrong sums"),
    pytest.param((11, 0), None, False, id="AMD"),
]


def narrow_layer(width: int, out: int) -> QuantisedLinear:
    """A layer on the card that computes in bfloat16."""
    layer = QuantisedLinear(torch.nn.Linear(width, out, dtype=torch.bfloat16), "int8")
    move(layer)
    return layer


@pytest.mark.parametrize(("capability", "cuda", "able"), CARDS)
def test_cards_without_such_units_widen_the_weights(
    monkeypatch, capability: tuple[int, int], cuda: str | None, able: bool
) -> None:
    products, layer = install_units(monkeypatch, capability, cuda), narrow_layer(64, 48)
    x = on_card(torch.zeros(2, 20, 64), torch.bfloat16)
    with card() as there:
        assert integers_pay(x, layer.weight) is able
        assert layer(x).dtype == torch.bfloat16
    assert products == [(40, 64, 48)] * able
    assert there.cost == (0, 0)


def test_a_whole_model_on_a_card_without_them(placed, monkeypatch) -> None:
    products = install_units(monkeypatch, (7, 0))
    assert set(costs(placed[1], sampler="euler")) == {(0, 0)}
    assert products == []


def test_a_card_is_asked_once(monkeypatch) -> None:
    asked: list[torch.device] = []
    products, layer = install_units(monkeypatch), narrow_layer(64, 48)
    monkeypatch.setattr(integer, "_sums_are_exact", lambda there: asked.append(there) or True)
    with card():
        for _ in range(3):
            layer(on_card(torch.zeros(40, 64), torch.bfloat16))
    assert asked == [torch.device("cuda", 0)]
    assert len(products) == 3


def test_nothing_is_asked_while_something_is_compiled(monkeypatch) -> None:
    install_units(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert not integer.card_multiplies_integers(torch.device("cuda", 0))
    assert integer._cards == {}
    assert integer.card_multiplies_integers(torch.device("cuda", 0))


def wrong(values: Tensor, columns: Tensor) -> Tensor:
    sums = values.int() @ columns.int()
    sums[-1, -1] += 1
    return sums


def refused(values: Tensor, columns: Tensor) -> Tensor:
    raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")


@pytest.mark.parametrize(
    ("product", "said"),
    [(None, ""), (wrong, "multiplies int8 wrongly"), (refused, "CUBLAS_STATUS_NOT_SUPPORTED")],
)
def test_a_product_is_tried_first(
    monkeypatch, caplog, product: Callable[[Tensor, Tensor], Tensor] | None, said: str
) -> None:
    if product is not None:
        monkeypatch.setattr(torch, "_int_mm", product)
    assert integer._sums_are_exact(CPU) is (product is None)
    assert said in caplog.text
    assert bool(caplog.text) is bool(said)


@pytest.mark.parametrize(
    ("rows", "width", "out", "pays"),
    [(32, 64, 48, True), (31, 64, 48, False), (40, 72, 48, False), (40, 64, 40, False)],
)
def test_sizes_that_a_card_may_refuse(
    monkeypatch, rows: int, width: int, out: int, pays: bool
) -> None:
    products, layer = install_units(monkeypatch), narrow_layer(width, out)
    with card() as there:
        made = layer(on_card(torch.zeros(1, rows, width), torch.bfloat16))
    assert made.shape == (1, rows, out)
    assert made.dtype == torch.bfloat16
    assert products == [(rows, width, out)] * pays
    assert there.cost == (0, 0)


def test_many_rows_go_in_parts_of_about_one_size(monkeypatch) -> None:
    products = install_units(monkeypatch)
    rows, out = 4200, 8192
    with card() as there:
        weight = on_card(torch.zeros(out, 64, dtype=torch.int8))
        x, scale = on_card(torch.zeros(rows, 64), torch.float16), on_card(torch.ones(out, 1))
        made = integer_linear(x, weight, scale, None)
    assert made.shape == (rows, out)
    assert [n for n, *_ in products] == [1400] * 3  # 2048 would fit, and leave 104 for the last
    assert there.cost == (0, 0)


def test_rows_may_lie_side_by_side(monkeypatch) -> None:
    products = install_units(monkeypatch)  # which asks for one after the other
    with card() as there:
        x = on_card(torch.zeros(64, 40), torch.bfloat16).t()
        weight, scale = on_card(torch.zeros(48, 64, dtype=torch.int8)), on_card(torch.ones(48, 1))
        made = integer_linear(x, weight, scale, None)
    assert made.shape == (40, 48)
    assert products == [(40, 64, 48)]
    assert there.cost == (0, 0)


def test_gradients_go_through_widened_weights(monkeypatch) -> None:
    products = install_units(monkeypatch)
    weight = on_card(torch.zeros(32, 64, dtype=torch.int8))
    with card():
        x = on_card(torch.zeros(40, 64))
        assert integers_pay(x, weight)
        assert not integers_pay(x.requires_grad_(), weight)
        with torch.no_grad():
            assert integers_pay(x, weight)
    assert products == []


def test_a_lora_widens_its_layers_alone(placed, monkeypatch) -> None:
    variant, pipeline = placed
    products = install_units(monkeypatch)
    use = AdapterUse(golden_path(f"{variant}/adapter_lora"), 0.7)
    uses = load_adapters(tiny_checkpoint(variant), [use])
    with card(), AdapterSwitch(pipeline.model, uses) as switch:
        found = costs(pipeline, switch, sampler="euler")
        layers = narrow_layers(pipeline)
        changed = {name for name, layer in layers.items() if layer.change is not None}
    assert found[-1] == (0, 0)
    assert changed
    plain = [name for name in layers if not name.endswith("to_kv") and name not in changed]
    assert len(products) == STEPS * len(plain)


def test_a_lora_does_what_it_does_to_widened_weights(monkeypatch, as_on_card: list[int]) -> None:
    model = load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32, storage="int8")
    use = lora(model)
    found, plain = sampled(model, [use]), sampled(model)
    assert as_on_card
    monkeypatch.setattr(integer, "IN_INTEGERS", False)
    assert snr_db(found, sampled(model, [use])) > LEAST_DB - 3
    assert snr_db(found, plain) < LEAST_DB - 3
