"""`sa3 evaluate` on real files, with tiny extractors whose weights lie in a folder."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from sa3_core.cli.main import main
from tests.core.evaluation.conftest import tiny as tiny
from tests.core.evaluation.conftest import weights as weights
from tests.core.evaluation.conftest import write_clips


@pytest.fixture
def run(tiny, weights, capsys):
    """run(*arguments) -> (exit code, scores by metric, stderr)."""

    def runner(*given):
        code = main(["evaluate", *map(str, given), "--weights", str(weights), "--device", "cpu"])
        said = capsys.readouterr()
        lines = [json.loads(line) for line in said.out.splitlines()]
        return code, {line["metric"]: line for line in lines}, " ".join(said.err.split())

    return runner


@pytest.fixture
def sides(tmp_path):
    write_clips(tmp_path / "ref", 5, seed=1)
    write_clips(tmp_path / "gen", 5, seed=2)
    return tmp_path / "ref", tmp_path / "gen"


def write_prompts(path, ids, columns=("id", "prompt")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *((name, f"sound {name}") for name in ids)])
    return path


def test_two_folders_and_prompts_give_three_scores(run, sides, tmp_path):
    prompts = write_prompts(tmp_path / "p.csv", range(6), ("ytid", "caption"))
    code, scores, _ = run(*sides, "--prompts", prompts)
    assert code == 0
    assert list(scores) == ["fd-openl3", "kl-passt", "clap"]
    assert scores["fd-openl3"]["value"] > 0
    assert scores["kl-passt"]["value"] > 0
    assert -1 <= scores["clap"]["value"] <= 1
    assert {score["clips"] for score in scores.values()} == {5}


def test_a_folder_is_no_distance_from_itself(run, sides):
    code, scores, said = run(sides[0], sides[0])
    assert code == 0
    assert scores["fd-openl3"]["value"] == pytest.approx(0, abs=1e-6)
    assert scores["kl-passt"]["value"] == pytest.approx(0, abs=1e-4)
    assert "left out: clap: no clip's prompt is known" in said


def test_a_reference_is_kept_and_taken_again(run, sides, tmp_path):
    kept = tmp_path / "ref.npz"
    first = run(*sides, "--save-reference", kept)[1]
    second = run(kept, sides[1])[1]
    for metric in ("fd-openl3", "kl-passt"):
        assert second[metric]["value"] == pytest.approx(first[metric]["value"], rel=1e-12)
    with np.load(kept, allow_pickle=False) as file:
        assert set(file.files) == {"mu_ref", "sigma_ref", "ids", "probabilities"}
        published = {name: file[name] for name in ("mu_ref", "sigma_ref")}
    np.savez(tmp_path / "published.npz", **published)
    code, scores, said = run(tmp_path / "published.npz", sides[1])
    assert (code, list(scores)) == (0, ["fd-openl3"])
    assert scores["fd-openl3"]["value"] == pytest.approx(first["fd-openl3"]["value"], rel=1e-12)
    assert "holds no class probabilities" in said
    assert run(*sides, "--save-reference", kept)[0] == 1  # never over another


def test_a_broken_file_is_left_out_and_told(run, sides):
    (sides[1] / "2.wav").write_bytes(b"RIFF no sound")
    code, scores, said = run(*sides)
    assert code == 1
    assert {score["clips"] for score in scores.values()} == {4}
    assert "1 files were left out, first" in said
    assert "2.wav" in said


def test_ids_that_do_not_match_are_refused(run, sides, tmp_path):
    (sides[1] / "4.wav").rename(sides[1] / "other.wav")
    code, scores, said = run(*sides, "--metric", "kl-passt")
    assert (code, scores) == (1, {})
    assert "1 of 5 generated clips have no reference clip of the same id: other." in said
    prompts = write_prompts(tmp_path / "p.csv", range(5))
    code, _, said = run(*sides, "--metric", "clap", "--prompts", prompts)
    assert code == 1
    assert "have no prompt of the same id: other" in said
    (sides[1] / "deep").mkdir()
    (sides[1] / "3.wav").rename(sides[1] / "deep" / "0.wav")
    assert "has two clips called 0" in run(*sides)[2]


def test_too_few_clips_are_refused(run, sides):
    for number in range(1, 5):
        (sides[1] / f"{number}.wav").unlink()
    code, scores, said = run(*sides)
    assert (code, scores) == (1, {})
    assert "fd-openl3 needs 2 clips or more; 1 can be used here" in said
    assert "kl-passt needs 2 clips or more" in said


def test_what_a_job_made_is_paired_by_its_rows(run, sides):
    lines = [
        {
            "id": str(number),
            "outcome": "failed" if number == 4 else "done",
            "file": "" if number == 4 else f"{number}.wav",
            "row": {"--prompt": f"sound {number}", "mood": "calm"},
        }
        for number in range(5)
    ]
    manifest = sides[1] / "manifest.jsonl"
    manifest.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    code, scores, said = run(sides[0], manifest)
    assert code == 0
    assert [(name, score["clips"]) for name, score in scores.items()] == [
        ("fd-openl3", 4),
        ("kl-passt", 4),
        ("clap", 4),
    ]
    assert "1 of 5 rows" in said
    lines[0]["shard"] = "00000.tar"
    manifest.write_text(json.dumps(lines[0]))
    assert "lie in tars (00000.tar ...). Unpack them" in run(sides[0], sides[1])[2]


def test_wrong_prompts_are_refused_in_a_sentence(run, sides, tmp_path):
    wrong = write_prompts(tmp_path / "p.csv", range(5), ("name", "text"))
    assert "needs a column id or ytid" in run(*sides, "--prompts", wrong)[2]
    twice = write_prompts(tmp_path / "q.csv", [0, 1, 1])
    assert "q.csv has two rows for 1." in run(*sides, "--prompts", twice)[2]
    assert "cannot be read as CSV" in run(*sides, "--prompts", tmp_path / "no.csv")[2]


def test_without_weights_each_is_named_with_its_licence(sides, weights, capsys, monkeypatch):
    empty = weights / "empty"
    empty.mkdir()
    prompts = write_prompts(weights / "p.csv", range(5))
    given = ["evaluate", *map(str, sides), "--prompts", str(prompts), "--weights", str(empty)]
    assert main(given) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "openl3_audio_mel256_music-v0_4_0.h5.gz (CC BY 4.0) into" in said
    assert "passt-s-f128-p16-s10-ap.476-swa.pt (Apache-2.0) into" in said
    assert "hf download laion/clap-htsat-fused --local-dir" in said
    assert main([*given, "--metric", "fd-openl3", "--content", "env"]) == 1
    assert "openl3_audio_mel256_env-v0_4_0.h5.gz" in capsys.readouterr().err


def test_scores_of_a_class_of_durations_are_those_of_its_clips_alone(run, sides, tmp_path):
    """Both folders are narrowed; kl-passt keeps each clip's counterpart, however long it is."""
    longer = [(tmp_path / "long", seed) for seed in (3, 4)]
    for folder, (other, seed) in zip(sides, longer, strict=True):
        for path in write_clips(other, 3, seed=seed, seconds=2.0):
            path.rename(folder / f"long{path.stem}.wav")
    made = ("--class-bounds", 1.5, 9, "--duration-class")
    _, short, _ = run(*sides, *made, "short")
    _, medium, _ = run(*sides, *made, "medium")
    assert {score["clips"] for score in short.values()} == {5}
    assert {score["clips"] for score in medium.values()} == {3}
    assert {score["duration_class"] for score in medium.values()} == {"medium"}
    for folder in sides:
        for path in folder.glob("long*"):
            path.unlink()
    _, alone, _ = run(*sides)
    assert {name: score["value"] for name, score in alone.items()} == {
        name: score["value"] for name, score in short.items()
    }
    assert "duration_class" not in alone["fd-openl3"]
    code, _, said = run(*sides, *made, "long")
    assert code == 1
    assert "gen has no long clips." in said
