"""Files that are replaced: loaded anew by the next run, refused by name within one."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.editing_support import Loaded, load, music

ENCODER = "t5gemma-b-b-ul2"
ADAPTERS = Path(__file__).parents[2] / "golden"


def touch(file: Path) -> None:
    """The same bytes under another time, as a replaced file of the same size."""
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


@pytest.fixture(scope="module")
def models(comfyui, pack, tiny_s) -> Path:
    """Two models, a text encoder and an autoencoder apart."""
    importlib.import_module("sa3_pack.nodes.bridge.host.folders").register_folder()
    folder = comfyui / "models"
    for name in ("replaced", "apart"):
        shutil.copytree(tiny_s, folder / "stable_audio_3" / name)
    yield folder
    shutil.rmtree(folder / "stable_audio_3")
    (folder / "stable_audio_3").mkdir()


CHOICES = {
    "with the model": {"model": "replaced"},
    "apart": {"model": "replaced", "text_encoder": f"apart/{ENCODER}", "autoencoder": "apart"},
}
READ = {  # file -> the choices whose outputs depend on it
    "replaced/model.safetensors": {"with the model", "apart"},
    "replaced/model_config.json": {"with the model", "apart"},
    f"replaced/{ENCODER}/model.safetensors": {"with the model"},
    f"replaced/{ENCODER}/tokenizer.json": {"with the model"},
    f"replaced/{ENCODER}/tokenizer_config.json": {"with the model"},
    f"replaced/{ENCODER}/config.json": {"with the model"},
    "apart/model.safetensors": {"apart"},
    "apart/model_config.json": {"apart"},
    f"apart/{ENCODER}/model.safetensors": {"apart"},
    f"apart/{ENCODER}/tokenizer.json": {"apart"},
}


@pytest.mark.parametrize("file", READ)
def test_the_loader_runs_again_for_every_file_that_it_read(pack, models, file):
    loader = importlib.import_module("sa3_pack.nodes.loaders").SA3LoadModel
    path = models / "stable_audio_3" / file
    before = {name: loader.fingerprint_inputs(**choice) for name, choice in CHOICES.items()}
    assert before == {name: loader.fingerprint_inputs(**c) for name, c in CHOICES.items()}
    if path.is_file():
        touch(path)
    else:
        path.write_text("{}", encoding="utf-8")  # a file that was not there counts as well
    after = {name: loader.fingerprint_inputs(**choice) for name, choice in CHOICES.items()}
    assert {name for name in CHOICES if before[name] != after[name]} == READ[file]


def test_load_same_runs_again_too(pack, models):
    loader = importlib.import_module("sa3_pack.nodes.loaders").SA3LoadSAME
    for file in ("model.safetensors", "model_config.json"):
        before = loader.fingerprint_inputs("apart")
        touch(models / "stable_audio_3" / "apart" / file)
        assert loader.fingerprint_inputs("apart") != before


@pytest.fixture
def own(pack, tiny_s, tmp_path) -> SimpleNamespace:
    """Nets of a copy that a test may spoil."""
    folder = Path(shutil.copytree(tiny_s, tmp_path / "spoiled"))
    return SimpleNamespace(folder=folder, **vars(load(pack, folder)))


def runs(loaded: Loaded) -> dict[str, Any]:
    """Name -> something that computes with the model's file or the text encoder's."""
    stock = importlib.import_module("nodes")
    latent = loaded.module("nodes.latent").SA3EmptyLatent.execute(0.4).args[0]
    prompt = loaded.prompt("pad")
    encoded = loaded.encode(music(0.3))
    lora = loaded.module("nodes.bridge.work.loras")
    use = loaded.module("sa3_core.adapters.use").AdapterUse("adapter_lora.safetensors")
    return {
        "SA3 Sampler": lambda: loaded.sample(latent, steps=1, positive=prompt),
        "KSampler": lambda: stock.common_ksampler(
            loaded.model, 1, 1, 1.0, "euler", "simple", prompt, prompt, latent
        ),
        "SAME Encode": lambda: loaded.encode(music(0.3)),
        "SAME Decode": lambda: loaded.decode(encoded),
        "stock encode": lambda: loaded.vae.encode(music(0.3)["waveform"].movedim(1, -1)),
        "stock decode": lambda: loaded.vae.decode(encoded["samples"]),
        "LoRA Loader": lambda: lora.apply_lora(loaded.model, use, "LoRA Loader"),
        "Save SA3 Model": lambda: lora.save_merged(loaded.model, "replaced/m", "auto", False),
        "text": lambda: loaded.prompt("pad"),
        "stock text": lambda: loaded.clip.encode_from_tokens(loaded.clip.tokenize("pad")),
        "stock text model": loaded.clip.load_model,
    }


def test_no_run_starts_on_a_file_that_was_changed(own, small, comfyui):
    """The file is cut, as by a download over it: reading the mapped rest would be a SIGBUS."""
    (comfyui / "models" / "loras").mkdir(exist_ok=True)
    shutil.copy(ADAPTERS / "tiny-s" / "adapter_lora.safetensors", comfyui / "models" / "loras")
    loaded = Loaded(own.pack, own.model, own.clip, own.vae)
    every = runs(loaded)
    for file, texts in (("model.safetensors", False), (f"{ENCODER}/model.safetensors", True)):
        path = own.folder / file
        content = path.read_bytes()
        with path.open("r+b") as opened:
            opened.truncate(1000)
        for name, run in every.items():
            if ("text" in name) == texts:
                with pytest.raises(Exception, match=r"model\.safetensors was changed or replaced"):
                    run()
        path.write_bytes(content)


def test_a_lora_that_was_changed_is_named(pack, patcher, bridge, prompt, comfyui):
    lora = importlib.import_module("sa3_pack.nodes.bridge.work.loras")
    use = importlib.import_module("sa3_pack.sa3_core.adapters.use").AdapterUse
    folder = comfyui / "models" / "loras"
    folder.mkdir(exist_ok=True)
    for name in ("first", "second"):
        shutil.copy(
            ADAPTERS / "tiny-s" / "adapter_lora.safetensors", folder / f"{name}.safetensors"
        )
    for name in ("first", "second"):
        patcher, _ = lora.apply_lora(patcher, use(f"{name}.safetensors"), "LoRA Loader")
    latent = bridge.coding.empty_latent([0.4], 1)
    arguments = (bridge.core_settings.SampleSettings(steps=1), prompt, None)
    bridge.sampling.sample(patcher, latent, *arguments, bridge.core_noise.Seeds(1))
    touch(folder / "first.safetensors")
    with pytest.raises(Exception, match=r"first\.safetensors was changed.*Run the graph again"):
        bridge.sampling.sample(patcher, latent, *arguments, bridge.core_noise.Seeds(1))


def test_a_lora_is_built_anew_for_a_replaced_model(own, comfyui):
    """DoRA and -xs take the model's own weights: those of the file before would be wrong."""
    lora = importlib.import_module("sa3_pack.nodes.bridge.work.loras")
    model = importlib.import_module("sa3_pack.nodes.bridge.sockets.model")
    use = importlib.import_module("sa3_pack.sa3_core.adapters.use").AdapterUse
    folder = comfyui / "models" / "loras"
    folder.mkdir(exist_ok=True)
    shutil.copy(ADAPTERS / "tiny-s" / "adapter_dora-rows.safetensors", folder)
    built = []
    for _ in range(2):
        patcher = model.load_patcher(str(own.folder), "spoiled", "fp32", "auto")
        before = lora._build.cache_info().misses
        lora.apply_lora(patcher, use("adapter_dora-rows.safetensors"), "LoRA Loader")
        built.append(lora._build.cache_info().misses - before)
        touch(own.folder / "model.safetensors")
    assert built == [1, 1]
