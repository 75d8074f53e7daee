"""A dataset folder is the same to the bit whatever encoded it, and whoever was killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.checkpoints.load import load_autoencoder
from sa3_core.datasets.encode import encode_folder
from sa3_core.datasets.folder import list_recordings
from sa3_core.geometry import HOP
from sa3_core.jobs.buckets import Bucket
from sa3_core.jobs.encoding import EncodingJob, EncodingWorker, encoding_worker
from sa3_core.jobs.local import run_here, run_processes
from sa3_core.jobs.outcome import Outcome
from sa3_core.jobs.ray_engine import run_ray
from sa3_core.jobs.run import run_job
from sa3_core.jobs.spec import Computing, ModelFiles
from tests.helpers.support import ROOT

SIZE = 3 * HOP
COMPUTING = Computing(dtype=torch.float32, threads=1)


@pytest.fixture
def sounds(tmp_path) -> Path:
    """Four that can be used, one of them in two pieces, a repeated one, and two that cannot."""
    folder, rng = tmp_path / "sounds", torch.Generator().manual_seed(5)
    folder.mkdir()
    for number, name in enumerate("abcd"):
        audio = torch.rand(2, (2 + 2 * number) * HOP // 2, generator=rng) * 0.4 - 0.2
        write_audio(folder / f"{name}.wav", audio, 44100, FORMATS["wav-16"])
        (folder / f"{name}.txt").write_text(f"sound {name}", encoding="utf-8")
    (folder / "b2.wav").write_bytes((folder / "b.wav").read_bytes())
    (folder / "b2.txt").write_text("b again", encoding="utf-8")
    (folder / "no_caption.wav").write_bytes((folder / "c.wav").read_bytes())
    (folder / "broken.wav").write_bytes(b"RIFF no sound")
    (folder / "broken.txt").write_text("none", encoding="utf-8")
    return folder


@pytest.fixture
def encode(tmp_path, sounds, tiny_s):
    """encode("name", engine, worker) -> the folder's job, summary and lines by id."""

    def run(name, engine=run_here, worker=encoding_worker, size=SIZE):
        job = EncodingJob(Path.cwd(), tmp_path / name, ModelFiles(tiny_s), COMPUTING, size)
        rows = job.rows(list_recordings(sounds))
        summary = run_job(job, rows, partial(engine, partial(worker, job)), resume=True)
        lines = map(json.loads, summary.results.read_text("utf-8").splitlines())
        return job, summary, {line["id"]: line for line in lines}

    return run


def dataset(folder: Path) -> dict[str, bytes]:
    """What the format knows of a folder."""
    paths = [path for path in folder.iterdir() if path.suffix in (".npy", ".json")]
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture
def expected(tmp_path, sounds, tiny_s) -> dict[str, bytes]:
    """What one process writes without any job."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        net = load_autoencoder(tiny_s, torch.float32)
        encode_folder(list_recordings(sounds), net, tmp_path / "expected", SIZE)
    finally:
        torch.set_num_threads(threads)
    return dataset(tmp_path / "expected")


def test_a_job_of_one_process_writes_the_same_folder(encode, expected):
    job, summary, lines = encode("out")
    assert dataset(job.out) == expected
    assert len(expected) == 2 * 5 + 1  # d is cut in two
    assert lines["b2.wav"]["same_as"] == "b.wav"
    rejected = {name: line["error"] for name, line in lines.items() if line["outcome"] != "done"}
    assert set(rejected) == {"broken.wav", "no_caption.wav"}
    assert (summary.made, len(summary.failed)) == (6, 2)


def test_a_second_run_keeps_clips_makes_lost_ones_and_follows_captions(encode, expected, sounds):
    job, _, lines = encode("out")
    before = {path.name: path.stat().st_mtime_ns for path in job.out.glob("*.npy")}
    first, last = lines["a.wav"]["names"][0], lines["d.wav"]["names"][1]
    (job.out / f"{last}.npy").unlink()
    (job.out / f"{first}.json").unlink()
    _, summary, _ = encode("out")
    assert (summary.made, summary.kept) == (2, 4)
    assert dataset(job.out) == expected
    after = {path.name: path.stat().st_mtime_ns for path in job.out.glob("*.npy")}
    assert [name for name in after if after[name] != before[name]] == [f"{last}.npy"]
    (sounds / "b.wav").unlink()  # its copy takes its place
    _, _, lines = encode("out")
    assert lines["b2.wav"]["same_as"] == ""
    notes = json.loads((job.out / f"{lines['b2.wav']['names'][0]}.json").read_bytes())
    assert (notes["prompt"], notes["relpath"]) == ("b again", "b2.wav")


class KilledOnce(EncodingWorker):
    """Its process is killed at the first sight of a recording."""

    def run(self, bucket: Bucket) -> Iterator[Outcome]:
        mark = self._job.out / ".killed"
        if bucket.rows[0].id == "b.wav" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().run(bucket)


def killed_once(job: EncodingJob, number: int) -> KilledOnce:
    return KilledOnce(job, "cpu")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_two_processes_of_which_one_is_killed_write_the_same_folder(encode, expected):
    job, summary, _ = encode("two", partial(run_processes, workers=2), killed_once)
    assert (job.out / ".killed").exists()
    assert dataset(job.out) == expected
    assert summary.made == 6


@pytest.mark.soak
def test_two_actors_of_ray_write_the_same_folder(encode, expected, monkeypatch):
    pytest.importorskip("ray", reason="Ray has no wheel for this Python")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    job, summary, _ = encode("ray", partial(run_ray, workers=2, gpus=0, threads=None))
    assert dataset(job.out) == expected
    assert summary.made == 6
