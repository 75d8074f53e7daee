"""Which files Load SA3 Model takes together, and where ComfyUI's folders lie."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from sa3_core.files.published import OWN_FOLDER


@pytest.fixture
def folders(comfyui, bridge):
    """An empty models folder registered with ComfyUI; removed afterwards."""
    files = importlib.import_module("sa3_pack.nodes.bridge.host.folders")
    files.register_folder()
    made = [comfyui / "models" / name for name in ("stable_audio_3", "diffusion_models", "vae")]
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    yield comfyui / "models"
    for folder in made:
        shutil.rmtree(folder)


def without_autoencoder(source: Path, target: Path) -> None:
    tensors = load_file(source / "model.safetensors")
    kept = {k: v for k, v in tensors.items() if not k.startswith("pretransform.")}
    save_file(kept, target)


def autoencoder_alone(source: Path, target: Path) -> None:
    prefix = "pretransform.model."
    tensors = load_file(source / "model.safetensors")
    save_file({k.removeprefix(prefix): v for k, v in tensors.items() if prefix in k}, target)


def test_a_model_without_autoencoder_takes_one_that_goes_with_it(bridge, folders, tiny_s, tiny_m):
    name = "diffusion_models/stable_audio_3_small.safetensors"
    without_autoencoder(tiny_s, folders / name)
    choice = bridge.loading.ModelChoice(name, text_encoder="tiny/t5gemma-b-b-ul2")
    shutil.copytree(tiny_m, folders / "stable_audio_3" / "tiny")  # SAME-L: does not go with small
    with pytest.raises(Exception, match="no SAME-S was found"):
        bridge.loading.load_all(choice)
    autoencoder_alone(tiny_s, folders / "vae" / "same_s.safetensors")
    _, _, vae = bridge.loading.load_all(choice)
    assert vae.config.decoder.window is None


def test_names_are_the_same_before_and_after_a_download(bridge, folders, tiny_s):
    before = bridge.loading.model_names()
    assert "small-music" in before
    shutil.copytree(tiny_s, folders / "stable_audio_3" / "small-music")
    after = bridge.loading.model_names()
    assert sorted(after) == sorted(before)
    assert bridge.loading.fingerprint("small-music", "model") != "small-music"


def test_folders_that_a_config_file_added_are_kept(bridge, folders, tiny_s, tmp_path):
    folder_paths = importlib.import_module("folder_paths")
    files = importlib.import_module("sa3_pack.nodes.bridge.host.folders")
    before = folder_paths.folder_names_and_paths[OWN_FOLDER]
    shutil.copytree(tiny_s, tmp_path / "elsewhere")
    # What ComfyUI makes of an entry in extra_model_paths.yaml, before any pack is loaded.
    folder_paths.folder_names_and_paths[OWN_FOLDER] = ([str(tmp_path)], set())
    try:
        files.register_folder()
        paths, extensions = folder_paths.folder_names_and_paths[OWN_FOLDER]
        assert paths[0] == str(tmp_path)
        assert len(paths) == 2
        assert ".safetensors" in extensions
        assert "elsewhere" in bridge.loading.model_names()
    finally:
        folder_paths.folder_names_and_paths[OWN_FOLDER] = before
