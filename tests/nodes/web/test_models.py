"""What the page is told of models before they are downloaded."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from sa3_core.checkpoints.bundled import stored_file
from sa3_core.checkpoints.library import Library


@pytest.fixture
def models(pack: ModuleType) -> ModuleType:
    return importlib.import_module("sa3_pack.nodes.bridge.web.models")


@pytest.mark.parametrize("logged_in", [False, True])
def test_the_smallest_source_that_is_open_is_preferred(models, monkeypatch, logged_in):
    monkeypatch.setattr(models, "get_token", lambda: "hf_x" if logged_in else None)
    states = models.model_states()
    assert states["logged_in"] is logged_in
    assert states["models"]["small-sfx"]["preferred"] == "mirror"
    small = {"gated": True, "repo": "org/small", "precision": "bf16", "bytes": 1}
    large = {"gated": False, "repo": "org/large", "precision": "fp32", "bytes": 2}
    chosen = models._preferred({"upstream": small, "mirror": large})
    assert chosen == ("upstream" if logged_in else "mirror")


def test_size_licence_and_precision_are_known_before_a_download(models):
    states = models.model_states()
    known = states["models"]["medium"]["sources"]
    assert known["upstream"] == {
        "repo": "stabilityai/stable-audio-3-medium",
        "url": "https://huggingface.co/stabilityai/stable-audio-3-medium",
        "bytes": 10_347_508_676,
        "precision": "fp32",
        "gated": True,
    }
    assert states["models"]["medium"]["folder"] == "models/stable_audio_3/medium"
    assert known["mirror"]["bytes"] * 2 == known["upstream"]["bytes"]
    assert (known["mirror"]["precision"], known["mirror"]["gated"]) == ("bf16", False)
    gated = {
        name
        for kind in ("models", "autoencoders")
        for name, state in states[kind].items()
        if state.get("sources", {}).get("upstream", {}).get("gated")
    }
    assert gated == {"small-music", "small-sfx", "medium"}


def test_a_listed_name_that_comes_with_the_program_has_nothing_to_download(models, tmp_path: Path):
    states = models._states(Library.from_models_dir(tmp_path), ["medium", "brought"], "model")
    stored = stored_file()
    assert stored is not None
    size = stored.stat().st_size
    assert states["brought"] == {"bundled": True, "bytes": size}
    assert 1_000_000 < size < 12_000_000
    assert "bytes" not in states["medium"]


def test_the_nodes_take_the_source_that_is_open(pack):
    loaders = importlib.import_module("sa3_pack.nodes.loaders")
    for node in loaders.NODES:
        inputs = {entry.id: entry for entry in node.define_schema().inputs}
        assert inputs["download_from"].default == "mirror"
        assert inputs["download_from"].options == ["upstream", "mirror"]
