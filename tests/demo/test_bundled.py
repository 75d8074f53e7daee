"""The demo model as it is stored, unpacked, listed and installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import venv
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from demo_model.maker.store import store
from sa3_core.audio.file import read_audio
from sa3_core.checkpoints import bundled
from sa3_core.checkpoints.library import Library
from sa3_core.checkpoints.load import load_model
from sa3_core.errors import CheckpointError, InputError
from tests.helpers.support import ROOT

from . import listening

STORED = ROOT / "demo_model" / "demo.safetensors"
ENCODER = "t5gemma-b-b-ul2"


@pytest.fixture
def library(tmp_path) -> Library:
    return Library.from_models_dir(tmp_path)


def test_it_is_small_and_half_precise():
    assert STORED.stat().st_size < 12_000_000
    values = sum(value.numel() for value in load_file(STORED).values() if value.is_floating_point())
    assert values > 3_000_000
    loras = list((ROOT / "demo_model" / "loras").iterdir())
    assert [path.suffix for path in loras] == [".safetensors"]
    assert loras[0].stat().st_size <= 250_000


def test_it_is_listed_last_before_and_after_it_is_unpacked(library):
    before = library.known_models()
    assert before[-2:] == ["demo", "demo-base"]
    library.resolve("demo", "model")
    assert library.known_models() == before
    assert library.known_autoencoders()[-1] == "demo"


def test_it_is_never_taken_for_another_models_text_encoder_or_autoencoder(
    library, tmp_path, tiny_s
):
    library.resolve("demo", "model")
    assert library.models() == library.autoencoders() == library.text_encoders() == []
    (tmp_path / "checkpoints").mkdir()
    alone = tmp_path / "checkpoints" / "small_music.safetensors"
    alone.write_bytes((tiny_s / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="No text encoder"):
        library.text_encoder_for(alone)


@pytest.mark.parametrize(("name", "objective"), bundled.BUNDLED.items())
def test_it_is_a_model_folder_like_any_other(library, name, objective):
    folder = library.resolve(name, "model")
    model = load_model(folder, dtype=torch.float32)
    assert model.objective == objective
    assert library.autoencoder_for(folder) == folder
    assert library.text_encoder_for(folder) == folder / ENCODER
    assert library.resolve(name, "model") == folder
    assert library.resolve(name, "autoencoder") == folder


def test_storing_and_unpacking_gives_the_same_tensors(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    (folder / ENCODER).mkdir(parents=True)
    sparse = torch.zeros(7, 9, dtype=torch.float16)
    sparse[2, 3:6] = torch.tensor([1.5, -2.0, 3.0])
    weights = {"sparse": sparse, "dense": torch.randn(5, 3), "none": torch.zeros(4)}
    save_file(weights, folder / "model.safetensors")
    save_file({"embed": torch.ones(2, 2)}, folder / ENCODER / "model.safetensors")
    config = {"model": {"diffusion": {"diffusion_objective": "rf_denoiser"}}}
    (folder / "model_config.json").write_text(json.dumps(config), "utf-8")
    (folder / ENCODER / "config.json").write_text("{}", "utf-8")
    path = store(folder, tmp_path / "stored.safetensors")
    monkeypatch.setattr(bundled, "stored_file", lambda: path)
    found = bundled.unpacked("demo-base", tmp_path / "models")
    for name in ("model.safetensors", f"{ENCODER}/model.safetensors"):
        wanted, got = load_file(folder / name), load_file(found / name)
        assert wanted.keys() == got.keys()
        assert all(torch.equal(wanted[key], got[key]) for key in wanted)
    written = json.loads((found / "model_config.json").read_text("utf-8"))
    assert written["model"]["diffusion"]["diffusion_objective"] == "rectified_flow"


def test_many_at_once_unpack_one(tmp_path):
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(bundled.unpacked("demo", tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert [path.name for path in found[0].parent.iterdir()] == ["demo"]


def test_what_another_version_unpacked_is_removed(tmp_path):
    old = tmp_path / ".bundled" / "0123456789ab" / "demo"
    old.mkdir(parents=True)
    bundled.unpacked("demo", tmp_path)
    assert not old.exists()


def test_a_folder_of_the_users_own_wins(tmp_path, library, tiny_s):
    own = tmp_path / "stable_audio_3" / "demo"
    own.mkdir(parents=True)
    for file in ("model.safetensors", "model_config.json"):
        (own / file).write_bytes((tiny_s / file).read_bytes())
    assert library.resolve("demo", "model") == own
    assert library.known_models().count("demo") == 1


def test_without_it_nothing_is_listed_and_asking_says_where_it_belongs(tmp_path, monkeypatch):
    monkeypatch.setattr("sa3_core.checkpoints.bundled.stored_file", lambda: None)
    library = Library.from_models_dir(tmp_path)
    assert "demo" not in library.known_models()
    with pytest.raises(InputError, match="There is no model 'demo'"):
        library.resolve("demo", "model")
    with pytest.raises(CheckpointError, match=r"demo_model/demo\.safetensors"):
        bundled.unpacked("demo", tmp_path)


def test_a_damaged_file_says_so(tmp_path, monkeypatch):
    path = tmp_path / "demo.safetensors"
    save_file({"a": torch.zeros(2)}, path, {"files": "{}", "shapes": '{"b": [2]}'})
    monkeypatch.setattr(bundled, "stored_file", lambda: path)
    with pytest.raises(CheckpointError, match="damaged"):
        bundled.unpacked("demo", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_an_unwritable_folder_says_so(tmp_path):
    (tmp_path / ".bundled").write_text("in the way")
    with pytest.raises(CheckpointError, match="bundled"):
        bundled.unpacked("demo", tmp_path)


def test_an_installation_finds_it_as_package_data():
    """What pyproject.toml ships lies where `bundled` looks for it beside the installed package."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads pyproject.toml itself")
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    package = "sa3_core.demo_model"
    assert package in told["packages"]
    assert told["package-dir"] == {package: "demo_model"}
    assert bundled._PLACES == (ROOT / "demo_model", ROOT / "sa3_core" / "demo_model")
    shipped = {path for glob in told["package-data"][package] for path in STORED.parent.glob(glob)}
    assert shipped >= {STORED, *(STORED.parent / "loras").iterdir()}


@pytest.mark.soak
def test_a_fresh_installation_plays_it(tmp_path):
    """`pip install .` into a new environment (pip fetches setuptools), then `sa3` elsewhere."""
    source, home = tmp_path / "source", tmp_path / "env"
    rooms = ("sa3_core", "demo_model", "pyproject.toml", "README.md", "LICENSE")
    for name in rooms:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(
            ROOT / name, _made(source) / name
        )
    venv.create(home, with_pip=True)
    places = home / ("Scripts" if sys.platform == "win32" else "bin")
    site = subprocess.run(
        [places / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        **_QUIET,
    ).stdout.strip()
    # torch and the others are this environment's: they come after what is installed here
    (Path(site) / "these.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    install = ["-m", "pip", "install", "--no-deps"]
    subprocess.run([places / "python", *install, source], **_QUIET)
    shutil.rmtree(source)
    made = ["--prompt", "organ melody, 108 BPM", "--seconds", "4", "--seed", "100"]
    command = [places / "sa3", "generate", "--model", "demo", *made, "--out", "organ.wav"]
    variables = os.environ | {"SA3_MODELS": str(tmp_path / "models")}
    subprocess.run(command, cwd=tmp_path, env=variables, **_QUIET)
    audio, _ = read_audio(tmp_path / "organ.wav")
    assert listening.heard(audio.numpy()) == "organ"


_QUIET: dict[str, Any] = {"check": True, "capture_output": True, "text": True}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
