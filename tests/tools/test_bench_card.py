"""`dev.py bench card`: each question has an answer or a reason; what disagrees ends it badly."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sa3_core.networks import integer, quantised
from sa3_core.networks.integer import integer_linear
from tests.benchmarks.__main__ import main
from tests.benchmarks.cases import card, card_report, card_work
from tests.benchmarks.cases.card_plan import Question, expected_seconds, plan
from tests.benchmarks.cases.card_work import QUESTIONS, parity
from tests.benchmarks.cases.options import BenchmarkError, Options
from tests.benchmarks.measuring import machine
from tests.benchmarks.measuring.ask import ask

PARTS = ("parity", "forms", "speed", "lora", "storage", "training", "loading", "limits")


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_everything_is_asked_on_every_device(device: str) -> None:
    questions = plan(device, Options())
    assert set(Counter(q.part for q in questions)) == set(PARTS)
    assert {q.work for q in questions} == set(QUESTIONS)
    assert len({q.name for q in questions}) == len(questions)
    assert tuple(card_report.TITLES) == PARTS
    unable = " ".join(q.unable for q in questions)
    assert ("NVIDIA" in unable) == (device != "cuda")
    assert ("8 bits" in unable) == (device == "mps")
    lengths = {(q.variant, q.seconds_of_audio) for q in questions if q.part == "speed"}
    assert {("medium", 380.0), ("medium", 120.0), ("small-music", 30.0)} <= lengths


def test_the_whole_plan_fits_the_time_of_a_card() -> None:
    questions = plan("cuda", Options())
    assert 10 < expected_seconds(questions) / 60 < card.MINUTES
    longest = max(questions, key=lambda q: expected_seconds([q]))
    assert expected_seconds([longest]) < 90
    assert expected_seconds([replace(longest, unable="no card")]) == 0


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What the processes answer, by part; nothing is computed."""
    given: dict[str, dict[str, Any]] = {
        part: {"seconds": 0.25, "memory": 2e9} for part in PARTS if part not in ("parity", "forms")
    }
    given["parity"] = given["forms"] = {"difference": 1e-6, "limit": 1e-4}
    monkeypatch.setattr(card, "ask", lambda module, asked, left: (given[q["part"]] for q in asked))
    return given


def test_the_table_and_the_json_hold_every_question(answers, tmp_path: Path) -> None:
    options = Options(quick=True, out=tmp_path, device="cpu")
    table = card.run(options)
    rows = rows_of(table)
    found = json.loads((tmp_path / "bench_card.json").read_text("utf-8"))["rows"]
    questions = plan("cpu", options)
    assert len(rows) == len(found) == len(questions)
    assert (tmp_path / "bench_card.md").read_text("utf-8") == table
    assert "CUDA graphs need an NVIDIA card" in table
    assert "| 0.25 | 2.00 GB |" in table
    assert "1.0e-06 (at most 1e-04) | yes" in table
    assert re.search(r"ComfyUI \d", table)
    held = sum(q.part in ("parity", "forms") and not q.unable for q in questions)
    assert f"All {held} results that have something to agree with agree." in table
    left = sum(bool(q.unable) for q in questions)
    assert f"{len(questions) - left} of {len(questions)} questions have an answer." in table
    assert f"{left} do not apply here" in table


def rows_of(table: str) -> list[str]:
    """What stands below the headers."""
    lines = table.splitlines()
    heads = {i for i, line in enumerate(lines) if lines[i + 1 : i + 2] and "---" in lines[i + 1]}
    return [line for i, line in enumerate(lines) if line.startswith("| ") and i not in heads]


def test_a_table_has_only_columns_with_something_in_them(answers, tmp_path: Path) -> None:
    answers["loading"] = {"seconds": 1.5, "memory": None}
    options = Options(quick=True, out=tmp_path, device="cpu", only=("loading", "parity"))
    table = card.run(options)
    assert "| what | precision | seconds |\n" in table
    assert "| what | precision | difference | agrees | remark |\n" in table
    assert "| tiny-s | fp32 | 1.5 |\n" in table


def test_another_implementation_stands_beside_ours(answers, tmp_path: Path, monkeypatch) -> None:
    taken = {"ours eager": 2.0, "comfyui-sdpa": 3.0, "diffusers": 1.0}
    monkeypatch.setattr(
        card,
        "ask",
        lambda module, asked, left: ({"seconds": taken[q["form"].split("/")[1]]} for q in asked),
    )
    table = card.run(Options(quick=True, out=tmp_path, device="cpu", only=("speed",)))
    assert "| tiny-s 1 s, 8 steps, ComfyUI | fp32 | 3 | 1.50 times as long as this pack |" in table
    assert (
        "| tiny-m 1 s, 8 steps, diffusers | fp32 | 1 | 0.50 times as long as this pack |" in table
    )
    assert table.count("times as long") == 4


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        ("parity", {"difference": 2e-4, "limit": 1e-4}),
        ("parity", {"difference": float("nan"), "limit": 1e-4}),
        ("parity", {"failed": True, "remark": "RuntimeError: out of memory"}),
        ("limits", {"difference": 1.0, "limit": 1e-4}),
    ],
)
def test_what_does_not_agree_ends_it_badly(answers, tmp_path: Path, part, answer) -> None:
    answers[part] = answer
    options = Options(quick=True, out=tmp_path, device="cpu", only=(part,))
    with pytest.raises(BenchmarkError, match=part) as raised:
        card.run(options)
    assert answer.get("remark", "NO") in raised.value.table
    said = "could not be answered" if "failed" in answer else "results DISAGREE"
    assert said in raised.value.table
    assert "something to agree with agree" not in raised.value.table


def test_a_failure_is_the_exit_code(answers, tmp_path: Path, monkeypatch) -> None:
    command = ["bench", "card", "--quick", "--device", "cpu", "--only", "parity"]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path)])
    assert main() == 0
    answers["parity"] = {"difference": 2e-4, "limit": 1e-4}
    assert main() != 0
    assert "| NO |" in (tmp_path / "bench_card.md").read_text("utf-8")


def test_a_fault_in_a_net_is_found_for_real(monkeypatch) -> None:
    """One weight in a thousand of the loaded model is off, as a broken kernel's would be."""
    load = card_work.load_pipeline

    def broken(*args: Any, **kwargs: Any) -> Any:
        pipeline = load(*args, **kwargs)
        weight = pipeline.model.dit.transformer.layers[0].ff.ff[2].weight
        changed = weight.detach().clone()
        changed[0] *= 1.1
        pipeline.model.dit.transformer.layers[0].ff.ff[2].weight.data = changed
        return pipeline

    question = next(q for q in plan_of("parity") if q.form == "t2a" and q.precision == "fp32")
    monkeypatch.setattr(card_work, "load_pipeline", broken)
    with torch.inference_mode():
        found = parity(question)
    assert not card.Answer(**found).agrees


def test_what_a_card_cannot_do_is_named_and_no_failure(answers, tmp_path: Path) -> None:
    answers["speed"] = {"failed": True, "remark": "not installed"}
    table = card.run(Options(quick=True, out=tmp_path, device="cpu", only=("speed",)))
    assert "not installed" in table
    assert sum("not installed" in row for row in rows_of(table)) == len(plan_of("speed"))


def plan_of(part: str) -> list[Question]:
    return [q for q in plan("cpu", Options(quick=True)) if q.part == part]


def test_time_that_is_over_is_said(answers, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(card, "MINUTES", 0.0)
    table = card.run(Options(quick=True, out=tmp_path, device="cpu", only=("loading",)))
    assert table.count("not begun: 0 minutes were over") == len(plan_of("loading")) == 2


def test_no_process_may_use_up_the_time_of_the_others(monkeypatch, tmp_path: Path) -> None:
    given: list[float] = []

    def slow(module: str, asked: list[dict[str, Any]], left: float) -> list[dict[str, Any]]:
        given.append(left)
        return [{"seconds": 1.0} for _ in asked]

    monkeypatch.setattr(card, "ask", slow)
    card.run(Options(quick=True, out=tmp_path, device="cpu", only=("loading",)))
    assert given == [60 * card.MOST_MINUTES] * 2


def test_a_process_that_breaks_is_an_answer() -> None:
    (found,) = ask("tests.benchmarks.cases.no_such_module", [{}], 60)
    assert found["failed"]
    assert "no_such_module" in found["remark"]


def test_a_question_that_breaks_its_process_takes_no_other_with_it() -> None:
    """The second of three ends the process: the third is asked in another one."""
    first, second = plan_of("parity")[:2]
    asked = [asdict(first), asdict(replace(second, work="none")), asdict(first)]
    one, broken, other = ask("tests.benchmarks.cases.card_work", asked, 300)
    assert one["difference"] == other["difference"] <= one["limit"]
    assert broken == {"failed": True, "remark": "KeyError: 'none'"}


def test_what_takes_too_long_is_said_of_each() -> None:
    asked = [asdict(q) for q in plan_of("parity")[:2]]
    for found in ask("tests.benchmarks.cases.card_work", asked, 0.0):
        assert found == {"failed": True, "remark": "took longer than 1 s"}


def test_parity_of_a_variant_is_one_process_and_all_else_has_its_own() -> None:
    questions = plan("cpu", Options(quick=True))
    groups = list(card.together(questions))
    assert [q for group in groups for q in group] == questions
    assert [len(group) for group in groups[:3]] == [15, 15, 1]
    assert all(len(group) == 1 for group in groups[2:])


def test_what_an_implementation_cannot_do_is_said_in_its_own_words(tmp_path, monkeypatch) -> None:
    """Here: there is no ComfyUI."""
    monkeypatch.setenv("SA3_COMFYUI", str(tmp_path))
    asked = [asdict(q) for q in plan_of("speed") if "ComfyUI" in q.what][:1]
    (found,) = ask("tests.benchmarks.cases.card_work", asked, 300)
    assert found["failed"]
    assert found["remark"] == f"no ComfyUI in {tmp_path}; run `python dev.py setup` first"


def test_memory_is_what_the_work_takes_beside_what_was_there() -> None:
    if machine.resident() is None:
        pytest.skip("this system does not tell it")
    kept = torch.ones(40 << 18)  # 40 MB
    work = lambda: [torch.ones(4 << 18) for _ in range(32)]  # noqa: E731 - 134 MB
    found = card_work.timed(plan_of("loading")[0], work)
    assert 120e6 < found["memory"] < 170e6
    assert len(kept) == 40 << 18


def test_the_stored_results_are_those_of_the_original(monkeypatch) -> None:
    """A fault that our own computation has on every device is found."""
    load = card_work.load_autoencoder

    def broken(*args: Any, **kwargs: Any) -> Any:
        same = load(*args, **kwargs)
        encode, decode = same.encode, same.decode
        monkeypatch.setattr(same, "encode", lambda x: 1.001 * encode(x))
        monkeypatch.setattr(same, "decode", lambda x: 1.001 * decode(x))
        return same

    monkeypatch.setattr(card_work, "load_autoencoder", broken)
    with torch.inference_mode():
        for question in plan_of("parity"):
            if question.form in ("encode", "decode") and question.precision == "fp32":
                assert not card.Answer(**parity(question)).agrees


@pytest.mark.parametrize("stage", ["t2a", "encode", "decode"])
def test_parity_is_looked_at_for_real(stage: str) -> None:
    question = next(q for q in plan_of("parity") if q.form == stage and q.precision == "fp32")
    with torch.inference_mode():
        found = parity(question)
        assert 0 <= found["difference"] <= found["limit"] == card_work.NEAR["fp32"]
        half = parity(replace(question, precision="bf16"))
        assert found["difference"] < half["difference"] <= half["limit"]


def one_of(work: str) -> Question:
    return next(q for q in plan("cpu", Options(quick=True)) if q.work == work)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_layers_in_whole_numbers_are_looked_at_for_real(monkeypatch, precision: str) -> None:
    question = replace(one_of("product"), precision=precision)
    found = QUESTIONS["product"](question)
    assert 0 < found["difference"] <= found["limit"] < 0.05
    multiply = integer._products

    def faulty(values: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        sums = multiply(values, columns)
        sums[-1] *= -1  # as of a kernel that loses the last row
        return sums

    monkeypatch.setattr(integer, "_products", faulty)
    assert not card.Answer(**QUESTIONS["product"](question)).agrees


def test_whole_numbers_are_held_against_widened_weights(monkeypatch) -> None:
    question, ways = one_of("integers"), Counter[bool]()
    pays = quantised.integers_pay

    def noted(x: torch.Tensor, weight: torch.Tensor) -> bool:
        ways[pays(x, weight)] += 1
        return pays(x, weight)

    monkeypatch.setattr(quantised, "integers_pay", noted)
    with torch.inference_mode():
        found = QUESTIONS["integers"](question)
    assert ways[True] > 5 * ways[False]
    assert found["seconds"] > 0
    assert 0.001 < found["difference"] < 0.0316  # 30 dB
    assert re.fullmatch(r"widened \d.*s, .*MB; 3\d\.\d dB apart", found["remark"])


@pytest.mark.parametrize("there", [False, True])
def test_the_hosts_kernel_is_held_against_the_same(monkeypatch, there: bool) -> None:
    question = next(q for q in plan_of("forms") if q.form == "comfy_kitchen")
    assert "for cards" in question.unable
    by_whom: list[torch.Size] = []

    def kernel(x: torch.Tensor, *layer: torch.Tensor) -> torch.Tensor | None:
        by_whom.append(x.shape)
        return integer_linear(x, *layer) * 1.01 if there else None

    monkeypatch.setattr(card_work, "_hosts_layer", lambda: kernel)
    found = card.Answer(**QUESTIONS["product"](question))
    assert by_whom
    assert found.agrees is (False if there else None)
    assert ("no kernel" in found.remark) is not there


@pytest.mark.parametrize("work", ["product", "integers"])
def test_where_int8_is_widened_that_is_said(monkeypatch, work: str) -> None:
    monkeypatch.setattr(card_work, "multiplies_integers", lambda x: False)
    with torch.inference_mode():
        answer = card.Answer(**QUESTIONS[work](one_of(work)))
    assert answer.remark == card_work.WIDENED
    assert answer.agrees is None
    assert (answer.seconds is None) is (work == "product")
