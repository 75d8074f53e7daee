"""`sa3 generate --from`: a manifest's rows into a folder, kept, resumed, the same as alone."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from sa3_core.audio.file import read_audio, write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.jobs import generating
from tests.helpers.cli_support import read_path
from tests.helpers.support import ROOT, rel_l2

COMMON = ("generate", "--from", "p.csv", "--model", "tiny-s", "--steps", 2, "--format", "wav")
MANIFEST = "id,prompt,seconds,seed,negative,cfg,mood\na,pad,0.5,1,,,calm\nb,bass,0.5,2,,,\n"


@pytest.fixture
def job(sa3, monkeypatch, cached_pipeline, tmp_path):
    """job("--out", "o", manifest="...") -> (exit code, stdout lines, stderr)."""
    monkeypatch.setattr(generating, "load_pipeline", cached_pipeline)

    def run(*argv, manifest=MANIFEST):
        (tmp_path / "p.csv").write_text(manifest)
        return sa3(*COMMON, *argv)

    return run


def lines(folder="o"):
    return [json.loads(line) for line in read_path(f"{folder}/manifest.jsonl").open()]


def test_rows_equal_the_same_clips_made_alone(job, sa3):
    code, out, err = job("--out", "o")
    assert (code, err) == (0, "")
    assert out == [str(read_path("o/manifest.jsonl"))]
    alone = ("generate", "--model", "tiny-s", "--steps", 2, "--prompt", "bass", "--seconds", 0.5)
    assert sa3(*alone, "--seed", 2, "--out", "b.wav")[0] == 0
    assert read_path("b.wav").read_bytes() == read_path("o/b.wav").read_bytes()
    first, second = lines()
    assert (first["id"], first["outcome"], first["row"]["mood"]) == ("a", "done", "calm")
    assert second["seconds"] == 0.5
    assert second["peak"] == pytest.approx(float(read_audio(read_path("b.wav"))[0].abs().max()))
    assert second["lufs"] < 0


def test_every_line_names_the_licence_beside_the_model(sa3, tiny_s, tmp_path):
    """Its first line that says something; rows stay in the manifest's order."""
    shutil.copytree(tiny_s, tmp_path / "licensed")
    (tmp_path / "licensed" / "LICENSE.md").write_text("\n  Some Community License \n\nTerms\n")
    rows = "".join(f"r{n},x,{0.2 if n % 2 else 0.6}\n" for n in range(4, 0, -1))
    (tmp_path / "p.csv").write_text(f"id,prompt,seconds\n{rows}")
    made = ("generate", "--from", "p.csv", "--model", tmp_path / "licensed", "--steps", 1)
    assert sa3(*made, "--batch", "auto", "--out", "o")[0] == 0
    assert [line["licence"] for line in lines()] == ["Some Community License"] * 4
    assert [line["id"] for line in lines()] == ["r4", "r3", "r2", "r1"]


def test_a_batch_is_within_rounding_of_single_rows(job):
    manifest = "id,prompt,seconds,seed\na,pad,0.5,1\nb,bass,0.5,2\nc,x,0.6,3\n"
    assert job("--out", "one", manifest=manifest)[0] == 0
    assert job("--out", "auto", "--batch", "auto", manifest=manifest)[0] == 0
    for name in "abc":
        alone, together = (read_audio(read_path(f"{d}/{name}.wav"))[0] for d in ("one", "auto"))
        assert rel_l2(together, alone) < 1e-5


def test_resuming_makes_what_is_missing_or_has_changed(job):
    assert job("--out", "o")[0] == 0
    made = read_path("o/a.wav").read_bytes()
    code, _, err = job("--out", "o")
    assert code == 1
    assert "holds results already" in err
    read_path("o/a.wav").write_bytes(made[:-4])  # cut
    kept = read_path("o/b.wav").stat().st_mtime_ns
    assert job("--out", "o", "--resume")[0] == 0
    assert read_path("o/a.wav").read_bytes() == made
    assert read_path("o/b.wav").stat().st_mtime_ns == kept
    changed = MANIFEST.replace("bass", "flute")
    assert job("--out", "o", "--resume", manifest=changed)[0] == 0
    assert read_path("o/b.wav").stat().st_mtime_ns != kept
    assert [line["id"] for line in lines()] == ["a", "b"]


def test_a_broken_row_stops_no_other(job, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF no sound")
    manifest = "id,prompt,init_audio,seconds\na,pad,bad.wav,\nb,bass,,0.5\n"
    code, out, err = job("--out", "o", manifest=manifest)
    assert (code, out) == (1, [])
    assert "1 made, 0 kept, 1 failed (first a: " in err
    first, second = lines()
    assert (first["outcome"], second["outcome"]) == ("failed", "done")
    assert "bad.wav" in first["error"]


def test_out_of_memory_halves_the_batch(job, monkeypatch):
    real, sizes = generating.generate, []

    def generate(pipeline, request, *rest):
        sizes.append(request.batch)
        if request.batch > 1:
            raise MemoryError
        return real(pipeline, request, *rest)

    monkeypatch.setattr(generating, "generate", generate)
    code, _, err = job("--out", "o", "--batch", 2)
    assert code == 0
    assert sizes == [2, 1, 1]
    assert "going on with 1" in err


def test_every_fault_is_told_before_anything_is_loaded(job, monkeypatch):
    monkeypatch.setattr(generating, "load_pipeline", None)
    manifest = (
        "id,prompt,seconds,sampler,lora,model\na,x,long,,,\na,x,1,magic,,\nc,x,1,,no.safetensors,\n"
        "d,x,1,,,none\n"
    )
    code, out, err = job("--out", "o", manifest=manifest)
    assert (code, out) == (1, [])
    said = err.splitlines()
    assert said[0].startswith("sa3: p.csv has 5 faults")
    places = [line.split(": ")[1] for line in said[1:]]
    wanted = ("2, seconds", "3, sampler", "3, id", "4, lora", "5, model")
    assert places == [f"line {place}" for place in wanted]
    assert not read_path("o").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--prompt", "a", "b"), "--prompt takes one value with --from"),
        (("--seed", -1), "no random --seed"),
        (("--latents-out", "l.npy"), "--from takes no --latents-out"),
    ],
)
def test_flags_that_are_about_one_clip_are_refused(job, flags, told):
    code, _, err = job("--out", "o", *flags)
    assert code == 2
    assert told in err


def test_flags_about_many_rows_need_a_manifest(sa3):
    common = ("generate", "--model", "tiny-s", "--out", "o.wav")
    code, _, err = sa3(*common, "--prompt", "x", "--workers", 2)
    assert code == 2
    assert "--workers needs --from" in err
    code, _, err = sa3(*common)
    assert code == 2
    assert "the following arguments are required: --prompt" in err


@pytest.fixture
def latents(sa3, tmp_path):
    """l.safetensors of two items, and rows that decode them."""
    steps = ("--seconds", 0.5, 0.4, "--steps", 2, "--seed", 1)
    made = ("generate", "--model", "tiny-s", "--prompt", "pad", "--out", "x.wav", *steps)
    assert sa3(*made, "--latents-out", "l.safetensors")[0] == 0
    (tmp_path / "d.csv").write_text(
        "id,latents,item,seconds,mood\na,l.safetensors,1,,calm\nb,l.safetensors,2,,\n"
        "c,l.safetensors,1,0.2,\n"
    )


def test_decoding_many_equals_decoding_one_file(sa3, latents):
    common = ("--model", "tiny-s", "--format", "wav", "--out")
    assert sa3("decode", "--from", "d.csv", *common, "o")[0] == 0
    assert sa3("decode", "l.safetensors", "--model", "tiny-s", "--out", "y.wav")[0] == 0
    for number, name in enumerate("ab", 1):
        assert read_path(f"o/{name}.wav").read_bytes() == read_path(f"y_{number}.wav").read_bytes()
    assert [line["seconds"] for line in lines()] == pytest.approx([0.5, 0.4, 0.2], abs=1e-4)
    assert lines()[0]["row"]["mood"] == "calm"
    code, _, err = sa3("decode", "--from", "d.csv", *common, "o", "--resume")
    assert (code, err) == (0, "")


@pytest.mark.soak
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_two_workers_decode_the_same_files(sa3, latents, monkeypatch, engine):
    if engine == "ray":
        pytest.importorskip("ray", reason="Ray has no wheel for this Python")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    common = ("decode", "--from", "d.csv", "--model", "tiny-s", "--format", "wav")
    one = (*common, "--threads-per-worker", 1, "--out")
    assert sa3(*one, "one")[0] == 0
    assert sa3(*one, "two", "--workers", 2, "--engine", engine)[0] == 0
    for name in "abc":
        assert (
            read_path(f"one/{name}.wav").read_bytes() == read_path(f"two/{name}.wav").read_bytes()
        )
    assert [line["id"] for line in lines("two")] == list("abc")


def test_what_cannot_be_decoded_is_told(sa3, latents, tmp_path):
    (tmp_path / "d.csv").write_text("id,latents,item\na,l.safetensors,\nb,l.safetensors,3\n")
    flags = ("decode", "--from", "d.csv", "--model", "tiny-s", "--out", "o")
    assert sa3(*flags)[0] == 1
    first, second = (line["error"] for line in lines())
    assert "holds 2 items; say which one" in first
    assert "there is no item 3" in second
    (tmp_path / "d.csv").write_text("id,latents,item\na,no.npy,\nb,,0\n")
    said = sa3(*flags[:-1], "p")[2]
    assert "line 2, latents: " in said
    assert "no.npy: no such file" in said
    assert "line 3, latents: is missing" in said
    assert "LATENTS, or --from" in sa3("decode", "--model", "tiny-s", "--out", "o.wav")[2]


def test_edits_loras_and_parquet(job, sa3, tmp_path, monkeypatch):
    """Rows with sources and LoRAs of a Parquet table are the clips that the flags make."""
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs the extra [ray]")
    from pyarrow import parquet

    write_audio(tmp_path / "s.wav", torch.rand(2, 22050) * 0.2, 44100, FORMATS["wav-32f"])
    lora = ROOT / "tests" / "golden" / "tiny-s" / "adapter_lora.safetensors"
    rows = [
        {"id": "anew", "init_audio": "s.wav", "noise_level": 0.5},
        {"id": "part", "inpaint_audio": "s.wav", "regions": "0.2-0.3"},
        {"id": "more", "continue_audio": "s.wav", "add": 0.2, "where": "start"},
        {"id": "lora", "seconds": 0.5, "loras": f"{lora}:0.7"},
    ]
    names = {name for row in rows for name in row}
    table = [{**dict.fromkeys(names), "prompt": "pad", "seed": 3, **row} for row in rows]
    parquet.write_table(pyarrow.Table.from_pylist(table), tmp_path / "p.parquet")
    made = ("generate", "--model", "tiny-s", "--steps", 2)
    assert sa3(*made, "--from", "p.parquet", "--format", "wav", "--out", "o")[0] == 0
    flags = {
        "anew": ("--init-audio", "s.wav", "--denoise", 0.5),
        "part": ("--inpaint-audio", "s.wav", "--region", "0.2-0.3"),
        "more": ("--continue-audio", "s.wav", "--add", 0.2, "--where", "start"),
        "lora": ("--seconds", 0.5, "--lora", f"{lora}:0.7"),
    }
    for name, own in flags.items():
        alone = ("--prompt", "pad", "--seed", 3, *own, "--out", f"{name}.wav")
        assert sa3(*made, *alone)[0] == 0
        assert read_path(f"{name}.wav").read_bytes() == read_path(f"o/{name}.wav").read_bytes()
