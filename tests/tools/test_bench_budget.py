"""Benchmarks of causes and of slowness: clocks, tables and comparisons; nothing is timed here."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from sa3_core.checkpoints.load import load_model
from sa3_core.networks import attention, ops
from tests.benchmarks.cases import budget as case
from tests.benchmarks.cases import codec, ratios
from tests.benchmarks.cases.options import Options
from tests.benchmarks.measuring import budget
from tests.helpers.support import tiny_checkpoint


@pytest.fixture
def ticks(monkeypatch) -> list[float]:
    """Times that the clock reads, one after the other."""
    times: list[float] = []
    monkeypatch.setattr(budget, "reader", lambda: lambda: times.pop(0))
    return times


@pytest.mark.parametrize(
    ("threads", "clock"), [(1, budget.time.thread_time), (2, budget.time.perf_counter)]
)
def test_one_thread_is_measured_by_its_own_seconds(monkeypatch, threads: int, clock: Any) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert budget.reader() is clock
    assert budget.Clock().now is clock


@pytest.mark.parametrize(
    ("most", "there", "pays"),
    [
        *((None, True, True), (None, False, False), ("AVX512_CORE_BF16", True, False)),
        *(("avx512_core_amx", True, True), ("AVX512_CORE_AMX", False, False), ("ALL", True, True)),
    ],
)
def test_instructions_that_onednn_may_not_use_do_not_pay(
    monkeypatch, most: str | None, there: bool, pays: bool
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if most:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", most)
    monkeypatch.setattr(attention, "BFLOAT16_PAYS", there)
    assert case.bfloat16_pays() is pays


def test_seconds_of_inner_parts_are_not_the_outer_ones(ticks) -> None:
    clock = budget.Clock()
    inner = clock.timed("inner", lambda x: x + 1)
    outer = clock.timed("outer", lambda x: inner(inner(x)))
    ticks += [0.0, 1.0, 3.0, 5.0, 9.0, 10.0]
    assert outer(1) == 3
    assert clock.seconds == {"inner": 6.0, "outer": 4.0}


def test_a_part_that_fails_is_counted(ticks) -> None:
    clock = budget.Clock()
    ticks += [1.0, 3.0]
    with pytest.raises(ZeroDivisionError):
        clock.timed("part", lambda: 1 / 0)()
    assert clock.seconds == {"part": 2.0}


def test_every_cause_is_met_in_a_generation_and_nothing_stays_wrapped() -> None:
    before = [vars(owner)[name] for _, owner, name in budget.PARTS]
    model = load_model(tiny_checkpoint("tiny-s"), dtype=torch.bfloat16)
    work, _ = case.piece(model, 1.0, 2)
    with budget.clocked() as clock:
        work()
    assert set(clock.seconds) == {cause for cause, _, _ in budget.PARTS}
    assert [vars(owner)[name] for _, owner, name in budget.PARTS] == before


def test_causes_are_split_at_their_limit() -> None:
    middle = (2.0, Counter({"products": 1.5, "norms": 0.5}))
    lines = case.causes(middle, {"products": 0.4}, 2)
    assert lines[2:] == [
        "| products, beyond it | 550.0 | 55.0% |",
        "| norms | 250.0 | 25.0% |",
        "| products, at the limit | 200.0 | 20.0% |",
    ]


def test_the_form_before_attends_in_float32(monkeypatch) -> None:
    monkeypatch.setattr(attention, "BFLOAT16_PAYS", True)
    x = torch.zeros(1, 2, dtype=torch.bfloat16)
    with torch.no_grad():
        with case.as_form(case.BEFORE):
            assert attention.frames_dtype(x, 1) == torch.float32
        with case.as_form(case.AS_IT_IS):
            assert attention.frames_dtype(x, 1) == torch.bfloat16


def test_the_median_round_has_its_own_causes() -> None:
    rounds = case.Rounds([(s, Counter({"a": s / 2})) for s in (3.0, 1.0, 2.0)])
    assert rounds.seconds == [1.0, 2.0, 3.0]
    assert rounds.middle == (2.0, {"a": 1.0})


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"a": 1.32, "b": 1.0}, ["WARNING: a takes 1.32 times", "1.20 is stored (+10%)"]),
        ({"a": 1.318, "b": 0.2}, ["No ratio is more than 10 % above"]),
        ({"a": math.nan}, ["WARNING: a takes nan"]),
        ({"c": 5.0}, ["c: nothing stored, not compared"]),
    ],
)
def test_what_became_slower_is_a_warning(found, words) -> None:
    text = "\n".join(ratios.warnings(found, {"a": 1.199, "b": 1.0}))
    assert all(word in text for word in words)
    assert text.count("WARNING") == sum("WARNING" in word for word in words)


def test_without_stored_ratios_it_says_so() -> None:
    (line,) = ratios.warnings({"a": 9.0}, {})
    assert "nothing was compared" in line


def test_a_ratio_is_the_median_of_pairs(monkeypatch) -> None:
    times = [5.0, 2.0, 3.0, 2.0, 4.0, 8.0]
    monkeypatch.setattr(ratios, "_timed", lambda work: times.pop(0))
    assert ratios.ratio(lambda: None, lambda: None, 3) == 1.5


def test_slower_work_is_said_and_is_no_failure(monkeypatch, tmp_path) -> None:
    stored = tmp_path / "stored.json"
    monkeypatch.setattr(ratios, "STORED", stored)
    monkeypatch.setattr(ratios, "WORK", {"work": lambda: (lambda: None, lambda: None)})
    value = iter((1.5, 1.6, 1.9, 1.6, 1.7, 1.8))  # a second look where one is above
    monkeypatch.setattr(ratios, "ratio", lambda work, products, rounds: next(value))
    assert "nothing was compared" not in ratios.run(Options(quick=True, only=("store",)))
    assert json.loads(stored.read_text("utf-8")) == {ratios.kind(): {"work": 1.5}}
    for _ in range(2):
        assert "WARNING" not in ratios.run(Options(quick=True))
    assert "WARNING: work takes 1.70 times" in ratios.run(Options(quick=True))


def test_stored_ratios_are_of_the_work_that_is_measured() -> None:
    stored = json.loads(ratios.STORED.read_text("utf-8"))
    assert stored
    assert all(set(found) == set(ratios.WORK) for found in stored.values())
    assert all(0 < value < 20 for found in stored.values() for value in found.values())


def test_products_are_those_of_the_work(monkeypatch) -> None:
    monkeypatch.setattr(ratios, "DEPTH", 1)
    with torch.inference_mode():
        work, products = ratios.transformer("fp32")
        with ratios.noted() as calls:
            work()
        made = products()
    assert isinstance(made, list)
    # qkv, out; q, out; gate, back; ends; step and AdaLN twice each
    assert len(made) == len(calls) == 6 + 2 + 4
    assert sum(x.shape[-2] == ratios.FRAMES + 64 for x, _ in calls if x.ndim == 3) == 6


def test_smoothing_helps_where_one_channel_is_loud() -> None:
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    x[:, 3] *= 100
    layer = ops.Linear(32, 48)
    exact = layer(x)
    with torch.inference_mode():
        ranges = codec.ranges_of(lambda: layer(x))
        plain = codec.decibels(codec.In8Bits()(layer, x), exact)
        smooth = codec.decibels(codec.In8Bits(ranges)(layer, x), exact)
    assert 15 < plain < smooth
    assert torch.equal(ranges[id(layer)], x.abs().amax(dim=0))


def test_other_products_take_the_place_of_ours_for_a_while() -> None:
    layer, x = ops.Linear(8, 8), torch.randn(2, 8)
    plain = nn.Linear.forward(layer, x)
    with codec.products(codec.in_bfloat16):
        assert 30 < codec.decibels(layer(x), plain) < 70
    assert torch.equal(layer(x), plain)
    assert codec.decibels(plain, plain) == math.inf
