"""The demo model on the command line: found by its name wherever it is called from."""

from __future__ import annotations

from sa3_core.audio.file import read_audio
from tests.demo import listening


def test_generate_finds_it_by_name(sa3, tmp_path, monkeypatch):
    monkeypatch.setenv("SA3_MODELS", str(tmp_path / "models"))
    out = tmp_path / "organ.wav"
    made = ("--prompt", "organ melody, 108 BPM", "--seconds", 4, "--seed", 100, "--out", out)
    code, printed, errors = sa3("generate", "--model", "demo", *made)
    assert code == 0, errors
    assert printed == [str(out)]
    assert listening.heard(read_audio(out)[0].numpy()) == "organ"


def test_models_lists_it_as_brought_along(sa3, tmp_path):
    code, printed, _ = sa3("models", "--models-dir", tmp_path)
    assert code == 0
    rows = [line.split(maxsplit=2) for line in printed if line.startswith("demo")]
    assert [row[:1] for row in rows] == [["demo"], ["demo-base"], ["demo"]]
    assert all(row[2].strip() == "comes with the program" for row in rows)
