"""`sa3 measure` on real files."""

from __future__ import annotations

import json

import torch

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.cli.main import main


def write(path, seconds: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * torch.sin(torch.arange(round(seconds * 44100)) * 0.05)
    write_audio(path, tone.expand(2, -1), 44100, FORMATS["wav-16"])


def test_a_line_per_file(tmp_path, capsys):
    write(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text("a tone, 100 BPM")
    assert main(["measure", str(tmp_path / "a.wav"), "--seconds", "1.5"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    values = json.loads(line)
    assert values["file"] == str(tmp_path / "a.wav")
    assert values["duration_error"] == -0.5
    assert values["correlation"] == 1.0
    assert values["tempo_error"] is None


def test_a_folder_gives_lines_table_and_picture_whatever_cannot_be_read(tmp_path, capsys):
    write(tmp_path / "in" / "a.wav")
    write(tmp_path / "in" / "deep" / "b.wav", 2.0)
    (tmp_path / "in" / "c.wav").write_bytes(b"RIFF no sound")
    out = tmp_path / "out"
    assert main(["measure", str(tmp_path / "in"), "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert [line.rpartition("/")[2] for line in said.out.replace("\\", "/").splitlines()] == [
        "measures.jsonl",
        "summary.md",
        "distributions.png",
    ]
    lines = [json.loads(line) for line in (out / "measures.jsonl").read_text().splitlines()]
    assert sorted("error" in line for line in lines) == [False, False, True]
    assert (out / "summary.md").read_text().startswith("2 clips, 3.0 s")
    assert (out / "distributions.png").read_bytes().startswith(b"\x89PNG")
    assert "1 of 3 files cannot be read" in said.err


def test_a_jobs_rows_say_what_was_asked_for(tmp_path, capsys):
    write(tmp_path / "a.wav")
    write(tmp_path / "b.wav", 2.0)
    rows = [
        {"id": "a", "outcome": "done", "file": "a.wav", "row": {"prompt": "x", "seconds": "1.5"}},
        {"id": "b", "outcome": "done", "file": "b.wav", "row": {"prompt": "x"}},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "manifest.jsonl").write_text(lines)
    assert main(["measure", str(tmp_path)]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["duration_error"] for line in found] == [-0.5, None]


def test_what_is_not_there_and_what_cannot_be_is_named(tmp_path, capsys):
    assert main(["measure", str(tmp_path / "no.wav")]) == 1
    assert "no.wav: no such file or folder" in capsys.readouterr().err
    write(tmp_path / "a.wav")
    assert main(["measure", str(tmp_path / "a.wav"), "--bpm", "0"]) == 1
    assert "--bpm" in capsys.readouterr().err


def test_the_summary_has_columns_of_duration_classes(tmp_path, capsys):
    write(tmp_path / "in" / "a.wav", 1.0)
    write(tmp_path / "in" / "b.wav", 2.0)
    rows = [
        {"id": "a", "outcome": "done", "file": "a.wav", "row": {"prompt": "x", "seconds": "1.9"}},
        {"id": "b", "outcome": "done", "file": "b.wav", "row": {"prompt": "x"}},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "in" / "manifest.jsonl").write_text(lines)
    asked = ["measure", str(tmp_path / "in"), "--class-bounds"]
    assert main([*asked, "1.5", "2", "--out", str(tmp_path / "out")]) == 0
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "| medium (1) | long (1) |" in summary  # 1.9 s were asked for, and 2 s are there
    (ends,) = (line for line in summary.splitlines() if line.startswith("| sound_end"))
    assert ends.endswith("| 1 | 2 |")
    assert main([*asked, "2", "1"]) == 1
    assert "2 and 1 s are no bounds of short, medium and long" in capsys.readouterr().err
