"""`dev.py bench speed` at toy size, this pack alone: table, picture and the way to a card."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks.cases import budget, encode, int8, scale, train
from tests.benchmarks.cases.jobs import Job
from tests.benchmarks.cases.options import Options
from tests.benchmarks.cases.tasks import Plan, Row, Target
from tests.benchmarks.measuring.measure import Measured, Result, relative
from tests.benchmarks.measuring.peak import Rates
from tests.benchmarks.peers import reference
from tests.benchmarks.report import Report

ROOT = Path(__file__).resolve().parents[2]


def test_quick_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "speed", "--quick", "--no-peers"]
    command += ["--only", "dit,cuda", "--seconds", "5,10", "--device", "cpu", "--out", tmp_path]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "bench_speed.md").read_text("utf-8")
    lines = [line for line in table.splitlines() if line.startswith("| DiT")]
    names = [line.split(" | ")[3] for line in lines]
    assert names[:2] == ["ours", "ours"]
    assert names[2:] == ["ours eager", "ours compile", "ours graph, no flash-attn"]
    assert "Error" not in table
    assert "DISAGREES" not in table
    assert "No CUDA card" in table
    assert (tmp_path / "bench_speed.png").stat().st_size > 1000


@pytest.fixture
def measured() -> Measured:
    """Ours in 2 s, a peer in 3 s, of what takes 1 s at the peak."""
    job = Job("decode", "", "fp32", 10.0)
    row = Row(
        task="same-l",
        name="SAME-L decode",
        length=10.0,
        job=job,
        flops=5e9,
        implementations=("ours", "peer"),
        rounds=1,
        target=Target(limit=0.5, ratio=2.0, memory=1e9),
    )
    ours = Result(seconds=[2.0, 1.9, 8.0], memory=2e9, difference=0.0)
    return Measured(row, {"ours": ours, "peer": Result(seconds=[3.0], difference=2e-6)})


def test_verdict_names_what_is_missed(measured: Measured) -> None:
    report = Report(2, {("cpu", "fp32"): Rates(5e9, 1e10)}, [measured], [])
    assert report.ok
    assert report.verdict(measured) == ">= 50% yes, >= 2x NO, <= 1.00 GB NO"
    ours, peer = report.lines()[2:]
    assert "| 3 | 2 (1.90 - 8.00) |  | 50% (53%) | 25% (26%) | 2.00 GB |" in ours
    assert "| 1 | 3 | 1.50x | 33% | 17% | n/a | 2.0e-06 |" in peer


@pytest.mark.parametrize("difference", [2e-4, float("nan"), float("inf")])
def test_disagreement_is_said_and_fails(measured: Measured, difference: float) -> None:
    measured.results["peer"].difference = difference
    report = Report(2, {("cpu", "fp32"): Rates(5e9, 1e10)}, [measured], [])
    assert not report.ok
    assert "DISAGREES" in report.lines()[-1]


def test_missing_peer_is_a_row_with_its_reason(measured: Measured) -> None:
    measured.results["peer"] = Result(error="not installed")
    report = Report(2, {("cpu", "fp32"): Rates(5e9, 1e10)}, [measured], [])
    assert report.ok
    assert "not installed" in report.lines()[-1]
    assert ">= 2x unknown" in report.verdict(measured)


def test_relative_difference() -> None:
    x = torch.tensor([[3.0, 4.0]])
    assert relative(x, x) == 0
    assert relative(x * 1.01, x) == pytest.approx(0.01)
    assert relative(torch.zeros(1, 2, 2), x) == float("inf")


def test_products_in_8_bits_have_a_verdict(monkeypatch) -> None:
    monkeypatch.setattr(int8, "SHAPES", ((64, 64), (64, 128)))
    threads = torch.get_num_threads()
    table = int8.run(Options(quick=True, seconds=(10.0,)))
    assert torch.get_num_threads() == threads
    for name in ("int8 in bf16", "int8 in fp32"):
        assert re.search(rf"\| {name} \| \d\.\d+ \(", table), name
    for name in ("fp32", "bf16", "int8", "int8 with rounding", "verdict"):
        assert f"| 10 s | 238 | {name} |" in table


def test_a_reference_is_one_of_the_implementations(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no checkout of stable-audio-3"):
        reference.checkout(tmp_path)
    (tmp_path / "stable_audio_3").mkdir()
    (tmp_path / "stable_audio_3" / "factory.py").touch()
    assert reference.checkout(tmp_path) == tmp_path.resolve()
    assert "reference" in Plan(quick=True, reference=True).peers_on_short()
    assert "reference" not in Plan(quick=True).peers_on_short()


def test_the_published_way_of_training_starts_from_the_weights_and_is_taken_out_again():
    layer = torch.nn.Linear(32, 24)
    before = layer.weight.detach().clone()
    for kind in ("lora", "dora-rows", "lora-xs"):
        one = train.Rebuilt(layer.weight, kind, torch.Generator().manual_seed(0))
        torch.testing.assert_close(one(layer.weight), before)
        assert any(p.requires_grad for p in one.parameters())
    chosen = train.cases(Options(only=("medium",), seconds=(47.0,)))
    assert [(c.size, c.kind, c.seconds) for c in chosen] == [("medium", "dora-rows", 47.0)]
    assert len(train.cases(Options())) == 11


def test_encoding_a_folder_is_told_beside_the_autoencoder() -> None:
    rows = [line.split(" | ") for line in encode.run(Options(quick=True)).splitlines()[4:]]
    assert [row[0] for row in rows] == ["| wav, 44100 Hz", "| flac, 48000 Hz", "| mp3, 44100 Hz"]
    for _, whole, own, beside, _ in rows:
        assert 0 < float(own) <= float(whole)
        assert float(beside.rstrip("%")) >= 0


def test_scheduling_is_what_lies_between_a_workers_rows_and_has_a_limit():
    assert scale.waited([[(0.0, 1.0), (1.5, 2.0)], [(5.0, 6.0), (2.0, 4.0)]]) == 1.5
    table = scale.Table(rows=10, clip=0.5)
    table.add("one", scale.Run(wall=5.0, driver=0.2, first=0.0, waited=0.0))
    table.add("two", scale.Run(wall=3.0, driver=0.01, first=1.0, waited=0.09), workers=2)
    assert table.above == []
    table.add("slow", scale.Run(wall=3.0, driver=0.01, first=1.0, waited=0.11), workers=2)
    assert table.above == ["slow"]
    assert "| one | 1 | 5 | 20.000 | 4.000% |  |  |  |" in str(table)
    assert "| two | 2 | 3 | 1.000 | 0.200% | 9.000 | 1.800% | 1 |" in str(table)


def test_rows_of_the_scale_benchmark_go_through_the_real_engine(tmp_path, tiny_s):
    bench = scale.Bench(tmp_path, tiny_s, rows=5)
    bench.write()
    assert [row.cells["seed"] for row in bench.read()] == ["0", "1", "2", "3", "4"]
    run = scale.measured(bench, "out", scale.here, 0.01)
    assert run.waited > 0
    assert len(list((tmp_path / "out").glob("*.bin"))) == 5
    again = scale.measured(bench, "out", scale.here, 0.01, resume=True)
    assert again.waited == 0  # nothing was made


def test_pieces_of_the_budget_take_turns() -> None:
    """After a first run of each, in every round all that have rounds left."""
    log: list[str] = []
    works = [(lambda: log.append("short"), 3), (lambda: log.append("long"), 1)]
    short, long = budget.in_turns(works, ("a", "b"), (), lambda: log.append("look"))
    first, rest = log[:2], " ".join(log[2:])
    assert first == ["short", "long"]
    assert rest == "look short short look long long look short short look short short"
    assert [len(short[form].found) for form in "ab"] == [3, 3]
    assert [len(long[form].found) for form in "ab"] == [1, 1]
