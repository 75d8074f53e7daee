"""Whatever happens, what is done stays and the rest goes on."""

from __future__ import annotations

import json
import os
import signal
import sys
import tarfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from sa3_core.audio.formats import FORMATS
from sa3_core.audio.levels import Levels
from sa3_core.cli.arguments import build_parser
from sa3_core.errors import InputError
from sa3_core.files.lock import only_one
from sa3_core.jobs import outcome as outcome_module
from sa3_core.jobs import run as run_module
from sa3_core.jobs.buckets import Bucket
from sa3_core.jobs.local import run_here, run_processes
from sa3_core.jobs.outcome import read_results
from sa3_core.jobs.ray_engine import run_ray, tasks_of
from sa3_core.jobs.row import Row
from sa3_core.jobs.run import run_job
from sa3_core.jobs.shards import Shards
from sa3_core.jobs.spec import JobSpec, ModelFiles
from tests.helpers.job_makers import CardMaker, FakeMaker
from tests.helpers.support import ROOT

ROWS = [Row(name, n, {"prompt": name}) for n, name in enumerate("abcdefgh", 2)]


@pytest.fixture
def spec(tmp_path):
    defaults = build_parser().parse_args(["generate", "--model", "m", "--out", "o"])
    out = tmp_path / "out"
    return JobSpec(defaults, tmp_path, out, {}, {}, FORMATS["flac-24"], Levels())


def here(spec, **ways):
    return partial(run_here, partial(FakeMaker, spec.out, **ways))


def results(spec) -> list[dict]:
    return [json.loads(line) for line in (spec.out / "manifest.jsonl").read_text().splitlines()]


def test_interrupted_after_every_row_and_resumed(spec):
    """The same files and lines as without an interruption, each row made once."""

    class StopError(Exception):
        pass

    def stop(done, total, outcome):
        raise StopError

    for number in range(len(ROWS)):
        with pytest.raises(StopError):
            run_job(spec, ROWS, here(spec), number > 0, stop)
    summary = run_job(spec, ROWS, here(spec), True)
    assert (summary.made, summary.kept, summary.failed) == (0, 8, ())
    assert [line["id"] for line in results(spec)] == list("abcdefgh")
    assert (spec.out / "runs").read_text() == "abcdefgh"


def test_a_torn_line_costs_its_row_alone(spec):
    run_job(spec, ROWS, here(spec))
    path = spec.out / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    summary = run_job(spec, ROWS, here(spec), True)
    assert (summary.made, summary.kept) == (1, 7)
    assert len(results(spec)) == 8


def test_failed_rows_are_tried_again_and_told(spec):
    summary = run_job(spec, ROWS, here(spec, failing="cf"))
    assert [line["id"] for line in summary.failed] == ["c", "f"]
    assert str(summary) == "6 made, 0 kept, 2 failed"
    assert str(run_job(spec, ROWS, here(spec), True)) == "2 made, 6 kept, 0 failed"


def test_two_runs_on_one_folder_refuse(spec):
    spec.out.mkdir()
    with only_one(spec.out), pytest.raises(InputError, match="in use by another process"):
        run_job(spec, ROWS, here(spec))
    assert [path.name for path in spec.out.iterdir()] == [".in-use"]


def test_a_full_disk_costs_the_line_and_not_the_run(spec, monkeypatch, caplog):
    """Lines that could not be added are written with all others at the end."""
    real, full = Path.open, []

    def opened(self, mode="r", *rest, **named):
        if self.name == outcome_module.RESULTS and mode == "ab" and not full:
            full.append(self)
            raise OSError(28, "No space left on device")
        return real(self, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", opened)
    assert str(run_job(spec, ROWS, here(spec))) == "8 made, 0 kept, 0 failed"
    assert "the disk is full" in caplog.text
    assert [line["outcome"] for line in read_results(spec.out / "manifest.jsonl")] == ["done"] * 8


KILLS = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")


@KILLS
def test_a_killed_worker_is_replaced(spec):
    engine = partial(run_processes, partial(FakeMaker, spec.out, killing_once="b"), workers=1)
    summary = run_job(spec, ROWS, engine)
    assert (summary.made, summary.failed) == (8, ())
    assert sorted((spec.out / "runs").read_text()) == list("abcdefgh")


@KILLS
@pytest.mark.soak
def test_a_row_that_kills_two_workers_is_given_up(spec):
    make = partial(FakeMaker, spec.out, killing_once="b", killing="e")
    summary = run_job(spec, ROWS, partial(run_processes, make, workers=2))
    assert (summary.made, [line["id"] for line in summary.failed]) == (7, ["e"])
    assert summary.failed[0]["error"] == "its worker ended twice (SIGKILL)"


def members(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_shards_hold_every_row_once_and_its_line(spec, monkeypatch):
    monkeypatch.setattr(run_module, "Shards", partial(Shards, most=3))
    packed = replace(spec, shards=True)
    assert run_job(packed, ROWS, here(spec)).made == 8
    paths = sorted(spec.out.glob("*.tar"))
    held = [members(path) for path in paths]
    assert [len(names) for names in held] == [6, 6, 4]
    assert held[0] == ["a.bin", "a.json", "b.bin", "b.json", "c.bin", "c.json"]
    with tarfile.open(paths[0]) as tar:
        assert tar.extractfile("b.bin").read() == b"x"  # pyright: ignore[reportOptionalMemberAccess]
    assert not list(spec.out.glob("*.bin"))
    assert [line["shard"] for line in results(spec)][::3] == [path.name for path in paths]
    assert str(run_job(packed, ROWS, here(spec), True)) == "0 made, 8 kept, 0 failed"
    assert sorted(spec.out.glob("*.tar")) == paths


def test_the_drivers_own_time_stays_below_two_percent_of_a_row_of_a_second(spec):
    """CPU time of the whole process, the fake maker's included: it holds on a busy machine too."""
    rows = [Row(f"r{n}", n, {"prompt": "x"}) for n in range(300)]
    began = time.process_time()
    assert run_job(spec, rows, here(spec)).made == 300
    assert (time.process_time() - began) / 300 < 0.02


def test_shards_are_read_by_the_readers_that_they_are_for(spec):
    """webdataset's and datasets' own code, where they are installed."""
    run_job(replace(spec, shards=True), ROWS, here(spec))
    (path,) = spec.out.glob("*.tar")
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == list("abcdefgh")
    assert samples[1]["bin"] == b"x"
    assert json.loads(samples[1]["json"])["row"] == {"prompt": "b"}


@pytest.mark.soak
def test_shards_are_read_by_datasets(spec, tmp_path):
    """The library of Hugging Face; it alone takes seconds to be imported."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    run_job(replace(spec, shards=True), ROWS, here(spec))
    files = [str(path) for path in spec.out.glob("*.tar")]
    cache = str(tmp_path / "cache")
    read = datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=cache)
    assert [row["__key__"] for row in read] == list("abcdefgh")
    assert read[1]["json"]["row"] == {"prompt": "b"}


def test_shards_follow_the_rules_of_the_format(spec):
    """Plain POSIX tar; the members of a sample stand together, and its key has no dot."""
    rows = [Row("x.y", 2, {"prompt": "1"}), Row("\u00e9", 3, {"prompt": "2"})]
    run_job(replace(spec, shards=True), rows, here(spec))
    (path,) = spec.out.glob("*.tar")
    with tarfile.open(path, "r:") as tar:
        names = [member.name for member in tar if member.isreg()]
    keys = [name.partition(".")[0] for name in names]
    assert keys[0] == keys[1] != keys[2] == keys[3] == "\u00e9"
    assert [name.partition(".")[2] for name in names] == ["bin", "json"] * 2


def test_shards_that_cannot_be_written_leave_their_files(spec, monkeypatch, caplog):
    """The disk is full for tars: all rows are made, the summary tells, resuming packs them."""
    monkeypatch.setattr(run_module, "Shards", partial(Shards, most=3))
    packed = replace(spec, shards=True)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Shards, "_pack", full)
        summary = run_job(packed, ROWS, here(spec))
    assert (summary.made, summary.failed, summary.loose) == (8, (), 8)
    assert "the disk is full" in caplog.text
    assert len(list(spec.out.glob("*.bin"))) == 8
    again = run_job(packed, ROWS, here(spec), True)
    assert (again.made, again.kept, again.loose) == (0, 8, 0)
    assert [len(members(path)) for path in sorted(spec.out.glob("*.tar"))] == [6, 6, 4]


def test_another_source_under_the_same_name_is_made_anew(spec):
    """By what it holds, be it as long and as old; a copy of the same sound elsewhere is kept."""
    source = spec.folder / "s.wav"
    rows = [Row("a", 2, {"prompt": "x", "init_audio": "s.wav"}), ROWS[1]]
    source.write_bytes(b"one sound")
    changed = source.stat().st_mtime
    run_job(spec, rows, here(spec))
    os.utime(source, (1, 1))
    assert str(run_job(spec, rows, here(spec), True)) == "0 made, 2 kept, 0 failed"
    source.write_bytes(b"two sound")
    os.utime(source, (changed, changed))
    assert str(run_job(replace(spec), rows, here(spec), True)) == "1 made, 1 kept, 0 failed"
    assert sorted((spec.out / "runs").read_text()) == list("aab")


@pytest.mark.parametrize("kind", ["lora", "model"])
def test_another_lora_or_model_under_the_same_name_makes_all_anew(spec, kind):
    path = spec.folder / "w.safetensors"
    path.write_bytes(b"one")
    named = {"loras": {"w": path}} if kind == "lora" else {"models": {"w": ModelFiles(path)}}
    run_job(replace(spec, **named), ROWS, here(spec))
    assert run_job(replace(spec, **named), ROWS, here(spec), True).kept == 8
    path.write_bytes(b"two")
    assert run_job(replace(spec, **named), ROWS, here(spec), True).made == 8


def test_a_packer_killed_before_its_lines_packs_no_row_twice(spec, monkeypatch):
    packed = replace(spec, shards=True)
    with monkeypatch.context() as patched:
        patched.setattr(Shards, "_moved", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_job(packed, ROWS, here(spec))
    assert len(list(spec.out.glob("*.tar"))) == 1
    assert str(run_job(packed, ROWS, here(spec), True)) == "0 made, 8 kept, 0 failed"
    assert len(list(spec.out.glob("*.tar"))) == 1
    assert all(line["shard"] for line in results(spec))


def test_ray_makes_the_same_rows(spec, monkeypatch):
    """Two actors of a real local Ray."""
    pytest.importorskip("ray", reason="Ray has no wheel for this Python")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    make = partial(FakeMaker, spec.out, failing="c")
    engine = partial(run_ray, make, workers=2, gpus=0, threads=None)
    assert str(run_job(spec, ROWS, engine)) == "7 made, 0 kept, 1 failed"
    assert sorted((spec.out / "runs").read_text()) == list("abdefgh")


@KILLS
@pytest.mark.soak
def test_ray_gives_up_a_row_that_kills_two_actors(spec, monkeypatch):
    """Those that the same actors had before them are made all the same, and no task for ever."""
    pytest.importorskip("ray", reason="Ray has no wheel for this Python")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    make = partial(FakeMaker, spec.out, killing_once="b", killing="e")
    summary = run_job(spec, ROWS, partial(run_ray, make, workers=2, gpus=0, threads=None))
    assert (summary.made, [line["id"] for line in summary.failed]) == (7, ["e"])
    assert summary.failed[0]["error"] == "its worker ended twice"
    assert set((spec.out / "runs").read_text()) == set("abcdfgh")


@pytest.mark.soak
def test_a_cluster_that_ray_address_names_is_joined_and_two_actors_share_its_card(
    spec, monkeypatch
):
    """A real Ray of one machine that says it has a card; it goes on when the job has ended."""
    ray = pytest.importorskip("ray", reason="Ray has no wheel for this Python")
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    head = {"num_cpus": 3, "num_gpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        make = partial(CardMaker, spec.out, pause=0.3)
        engine = partial(run_ray, make, workers=2, gpus=0.5, threads=None)
        assert run_job(spec, ROWS, engine).made == 8
        assert {line["cards"] for line in results(spec)} == {"0"}
        assert len({line["worker"] for line in results(spec)}) == 2
        assert not ray.is_initialized()
        ray.init(address=cluster.address, log_to_driver=False)
        assert ray.cluster_resources()["GPU"] == 1
        assert len(ray.nodes()) == 1
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_ray_is_given_several_of_many_buckets_at_once():
    """As many tasks that the workers end together, and none of a size that would be lost."""
    buckets = [Bucket((row,), (1,)) for row in ROWS] * 125
    for workers, sizes in ((1, {15, 10}), (2, {7, 6}), (8, {1})):
        tasks = list(tasks_of(buckets, workers))
        assert [bucket for task in tasks for bucket in task] == buckets
        assert {len(task) for task in tasks} == sizes
    assert max(len(task) for task in tasks_of(buckets * 10, 2)) == 16


def test_without_ray_its_extra_is_named(spec, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    engine = partial(run_ray, partial(FakeMaker, spec.out), workers=1, gpus=0, threads=None)
    with pytest.raises(InputError, match=r"pip install '\.\[ray\]'"):
        run_job(spec, ROWS, engine)
