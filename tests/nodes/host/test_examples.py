"""The sounds that example workflows start from are among ComfyUI's input files."""

from __future__ import annotations

import importlib

import pytest

from sa3_core.datasets.folder import CaptionRule, list_recordings
from sa3_core.datasets.plan import header_seconds

BPMS = (108, 128, 80, 92)  # in the order of the files' names


@pytest.fixture
def examples(pack, tmp_path, monkeypatch):
    """The module, with an input folder of its own that is not there yet."""
    module = importlib.import_module("sa3_pack.nodes.bridge.host.examples")
    folders = module.folder_paths
    monkeypatch.setattr(folders, "get_input_directory", lambda: str(tmp_path / "input"))
    return module


def test_the_sounds_are_offered_and_replace_nothing(examples, tmp_path):
    examples.offer_sounds()
    copy = tmp_path / "input" / "sa3_source.flac"
    assert copy.read_bytes() == (examples.SOUNDS / "sa3_source.flac").read_bytes()
    assert len(copy.read_bytes()) < 200_000
    lesson = tmp_path / "input" / "sa3_lesson"
    recordings = list_recordings(lesson, CaptionRule())
    assert [r.caption for r in recordings] == [f"flute melody, {bpm} BPM" for bpm in BPMS]
    assert all(header_seconds(r) == pytest.approx(2.0, abs=0.1) for r in recordings)
    assert sum(path.stat().st_size for path in lesson.iterdir()) < 40_000
    copy.write_bytes(b"mine")
    (lesson / "80.txt").write_text("my caption")
    examples.offer_sounds()
    assert copy.read_bytes() == b"mine"
    assert (lesson / "80.txt").read_text() == "my caption"


def test_a_folder_that_cannot_be_made_stops_nothing(examples, tmp_path):
    (tmp_path / "input").write_bytes(b"")
    examples.offer_sounds()
    assert (tmp_path / "input").read_bytes() == b""
