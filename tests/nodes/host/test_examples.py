"""The clip that example workflows start from is among ComfyUI's input files."""

from __future__ import annotations

import importlib

import pytest


@pytest.fixture
def examples(pack, tmp_path, monkeypatch):
    """The module, with an input folder of its own that is not there yet."""
    module = importlib.import_module("sa3_pack.nodes.bridge.host.examples")
    folders = module.folder_paths
    monkeypatch.setattr(folders, "get_input_directory", lambda: str(tmp_path / "input"))
    return module


def test_the_clip_is_offered_and_replaces_nothing(examples, tmp_path):
    examples.offer_clip()
    copy = tmp_path / "input" / "sa3_source.flac"
    assert copy.read_bytes() == examples.CLIP.read_bytes()
    assert len(copy.read_bytes()) < 200_000
    copy.write_bytes(b"mine")
    examples.offer_clip()
    assert copy.read_bytes() == b"mine"


def test_a_folder_that_cannot_be_made_stops_nothing(examples, tmp_path):
    (tmp_path / "input").write_bytes(b"")
    examples.offer_clip()
    assert (tmp_path / "input").read_bytes() == b""
