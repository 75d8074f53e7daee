"""Models are found by plain names, and names stay inside the model folders."""

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sa3_core.checkpoints import library as library_module
from sa3_core.checkpoints.bundled import BUNDLED
from sa3_core.checkpoints.library import Kind, Library, kinds_in
from sa3_core.checkpoints.variants import VARIANTS
from sa3_core.errors import InputError
from tests.helpers.model_files import (
    DIT,
    DURATION,
    FULL,
    SAME,
    T5,
    encoder_folder,
    folder_model,
    weights,
)

OPEN_1_0 = (
    "model.model.transformer.layers.0.self_attn.to_qkv.weight",
    DURATION,
    "pretransform.model.decoder.layers.0.bias",
)
IMAGE = ("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.decoder.conv_in.bias")
WHISPER = ("model.encoder.conv1.weight", "model.encoder.layers.0.self_attn.k_proj.weight")
UMT5 = ("encoder.block.0.layer.0.SelfAttention.q.weight", "spiece_model")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models folder as a user has it: ours, other people's and things half done."""
    root = tmp_path / "models"
    own = root / "stable_audio_3"
    folder_model(own / "small-music", encoder=True)
    folder_model(own / "my finetune №1")
    folder_model(own / "same-s", SAME)
    folder_model(own / ".staging")
    weights(own / "no config" / "model.safetensors", FULL)
    (own / "no weights").mkdir()
    (own / "no weights" / "model_config.json").write_text("{}")
    folder_model(root / "medium")
    weights(root / "checkpoints" / "stable_audio_3_medium.safetensors", FULL)
    weights(root / "checkpoints" / "音楽" / "größe.safetensors", FULL)
    weights(root / "checkpoints" / "stable-audio-open-1.0.safetensors", OPEN_1_0)
    weights(root / "checkpoints" / "sdxl.safetensors", IMAGE)
    (root / "checkpoints" / "broken.safetensors").write_bytes(b"\xff" * 40)
    (root / "checkpoints" / "old.ckpt").write_bytes(b"\x80\x02")
    weights(root / "diffusion_models" / "sub" / "DiT.SAFETENSORS", FULL)
    weights(root / "diffusion_models" / "dit_only.safetensors", (DIT,))
    weights(root / "vae" / "same_l.safetensors", tuple(f"pretransform.model.{k}" for k in SAME))
    weights(root / "vae" / "sd.safetensors", IMAGE)
    weights(root / "text_encoders" / "t5gemma_b_b_ul2.safetensors", (*T5, "spiece_model"))
    weights(root / "text_encoders" / "umt5.safetensors", UMT5)
    weights(root / "text_encoders" / "whisper.safetensors", WHISPER)
    encoder_folder(root / "text_encoders" / "hf" / "t5gemma")
    return root


def test_what_is_found(models: Path) -> None:
    library = Library.from_models_dir(models)
    full = [
        "checkpoints/stable_audio_3_medium.safetensors",
        "checkpoints/音楽/größe.safetensors",
        "diffusion_models/sub/DiT.SAFETENSORS",
    ]
    assert library.models() == ["my finetune №1", "small-music", "medium", *full]
    assert library.autoencoders() == [
        "my finetune №1",
        "same-s",
        "small-music",
        "medium",
        "vae/same_l.safetensors",
        *full,
    ]
    assert library.text_encoders() == [
        "small-music/t5gemma-b-b-ul2",
        "text_encoders/t5gemma_b_b_ul2.safetensors",
        "text_encoders/hf/t5gemma",
    ]


def test_every_listed_name_resolves(models: Path) -> None:
    library = Library.from_models_dir(models)
    kinds: dict[Kind, list[str]] = {
        "model": library.models(),
        "autoencoder": library.autoencoders(),
        "text_encoder": library.text_encoders(),
    }
    for kind, names in kinds.items():
        for name in names:
            path = library.resolve(name, kind)
            assert path.exists()
            assert path.is_file() is name.lower().endswith(".safetensors")
            assert library.resolve(name.replace("/", "\\"), kind) == path
            assert models in path.parents
    assert library.resolve("small-music", "model") == models / "stable_audio_3" / "small-music"
    assert library.resolve("medium", "model") == models / "medium"


def test_known_models_are_the_found_ones_and_the_published(models: Path) -> None:
    library = Library.from_models_dir(models)
    known = library.known_models()
    assert known[: len(library.models())] == library.models()
    assert known[len(library.models()) :] == [
        "small-sfx",
        "small-music-base",
        "small-sfx-base",
        "medium-base",
        *BUNDLED,
    ]
    assert library.known_autoencoders() == [*library.autoencoders(), "same-l", "demo"]
    empty = Library({})
    assert empty.models() == empty.autoencoders() == empty.text_encoders() == []
    assert empty.known_models() == [*(n for n, v in VARIANTS.items() if v.generative), *BUNDLED]
    assert empty.known_autoencoders() == ["same-s", "same-l", "demo"]


def test_a_name_is_the_same_before_and_after_the_download(tmp_path: Path) -> None:
    library = Library.from_models_dir(tmp_path)
    before = set(library.known_models())
    folder_model(library.download_root / "small-sfx")
    assert set(library.known_models()) == before
    assert library.models() == ["small-sfx"]


def test_earlier_roots_win(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for root in (first, second):
        folder_model(root / "small-music")
        weights(root / "x.safetensors", FULL)
    folder_model(second / "only here")
    library = Library({"stable_audio_3": [first, second], "checkpoints": [first, second]})
    assert library.models() == [
        "small-music",
        "only here",
        "stable_audio_3/x.safetensors",
        "checkpoints/x.safetensors",
        "checkpoints/small-music/model.safetensors",
        "checkpoints/only here/model.safetensors",
    ]
    assert library.resolve("small-music", "model") == first / "small-music"
    assert library.resolve("checkpoints/x.safetensors", "model") == first / "x.safetensors"
    assert library.resolve("only here", "model") == second / "only here"
    assert library.download_root == first


def test_missing_roots_are_no_error(tmp_path: Path) -> None:
    library = Library({"stable_audio_3": [tmp_path / "no"], "checkpoints": [tmp_path / "such"]})
    assert library.models() == []
    with pytest.raises(InputError, match="No folder for downloads"):
        _ = Library({"checkpoints": [tmp_path]}).download_root


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../small-music",
        "checkpoints/../../secret.safetensors",
        "checkpoints/..\\..\\secret.safetensors",
        "..\\..\\secret.safetensors",
        "checkpoints/.. /.. /secret.safetensors",
        "checkpoints/./x.safetensors",
        "checkpoints//x.safetensors",
        "/etc/passwd",
        "\\\\server\\share\\x.safetensors",
        "C:\\models\\x.safetensors",
        "c:x.safetensors",
        "checkpoints/x\0.safetensors",
        "small-music/",
    ],
)
@pytest.mark.parametrize("kind", ["model", "autoencoder", "text_encoder"])
def test_names_cannot_leave_the_folders(models: Path, name: str, kind: Kind) -> None:
    weights(models.parent / "secret.safetensors", FULL)
    weights(models / "secret.safetensors", FULL)
    with pytest.raises(InputError, match="not as a path"):
        Library.from_models_dir(models).resolve(name, kind)


def test_unknown_names_list_what_is_there(models: Path) -> None:
    library = Library.from_models_dir(models)
    with pytest.raises(InputError, match=r"no model 'tiny'. Found: my finetune №1, small-music"):
        library.resolve("tiny", "model")
    with pytest.raises(InputError, match=r"no model 'medium-base'.*Download 'medium-base' first"):
        library.resolve("medium-base", "model")
    with pytest.raises(InputError, match=r"no autoencoder 'same-l'.*Download 'same-l' first"):
        library.resolve("same-l", "autoencoder")
    with pytest.raises(InputError, match=r"no text encoder 'medium'. Found: small-music/t5gemma"):
        library.resolve("medium", "text_encoder")
    with pytest.raises(InputError, match=r"Found: none"):
        Library({}).resolve("x", "text_encoder")


def test_an_incomplete_folder_is_named(models: Path) -> None:
    (models / "stable_audio_3" / "small-music" / "model_config.json").unlink()
    library = Library.from_models_dir(models)
    assert "small-music" not in library.models()
    with pytest.raises(InputError, match=r"'small-music' is not complete.*model_config\.json"):
        library.resolve("small-music", "model")


def test_unrecognised_files_reach_the_loader(models: Path) -> None:
    """An API caller may name any file; the loader then says what is wrong with it."""
    library = Library.from_models_dir(models)
    for name in ("checkpoints/sdxl.safetensors", "checkpoints\\broken.safetensors"):
        assert library.resolve(name, "model").is_file()
    for kind, name in (
        ("text_encoder", "checkpoints/sdxl.safetensors"),
        ("model", "vae/sd.safetensors"),
        ("model", "checkpoints/old.ckpt"),
        ("model", "checkpoints/gone.safetensors"),
    ):
        with pytest.raises(InputError, match="There is no"):
            library.resolve(name, kind)


def test_a_damaged_model_folder_stays_listed(models: Path) -> None:
    path = models / "stable_audio_3" / "small-music" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    library = Library.from_models_dir(models)
    assert "small-music" in library.models()
    assert "small-music" in library.autoencoders()


def test_headers_are_read_once_per_state_of_the_file(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    real = library_module.read_header

    def counted(path: Path) -> dict:
        reads.append(path.name)
        return real(path)

    monkeypatch.setattr(library_module, "read_header", counted)
    path = models / "checkpoints" / "sdxl.safetensors"
    library = Library.from_models_dir(models)
    library.models()
    first = reads.count("sdxl.safetensors")
    library.models()
    Library.from_models_dir(models).autoencoders()
    assert first == reads.count("sdxl.safetensors") == 1
    weights(path, FULL)
    assert "checkpoints/sdxl.safetensors" in library.models()


def test_composed_and_decomposed_letters_are_one_name(tmp_path: Path) -> None:
    name = "größe café.safetensors"
    weights(tmp_path / unicodedata.normalize("NFD", name), FULL)
    library = Library({"checkpoints": [tmp_path]})
    assert library.models() == [f"checkpoints/{unicodedata.normalize('NFC', name)}"]
    for form in ("NFC", "NFD"):
        listed = f"checkpoints/{unicodedata.normalize(form, name)}"
        assert library.resolve(listed, "model").is_file()


def test_links_of_the_user_are_followed_and_loops_end(tmp_path: Path) -> None:
    elsewhere = folder_model(tmp_path / "disk2" / "sa3", encoder=True)
    weights(tmp_path / "disk2" / "files" / "x.safetensors", FULL)
    root = tmp_path / "models"
    (root / "stable_audio_3").mkdir(parents=True)
    (root / "checkpoints").mkdir()
    try:
        os.symlink(elsewhere, root / "stable_audio_3" / "small-music", target_is_directory=True)
        os.symlink(tmp_path / "disk2" / "files", root / "checkpoints" / "linked")
        os.symlink(root / "checkpoints", root / "checkpoints" / "loop")
    except OSError:
        pytest.skip("this system does not let the user make links")
    library = Library.from_models_dir(root)
    assert library.models() == ["small-music", "checkpoints/linked/x.safetensors"]
    assert library.text_encoders() == ["small-music/t5gemma-b-b-ul2"]
    assert library.resolve("checkpoints/linked/x.safetensors", "model").is_file()


def test_kinds_in_published_files(tiny_s: Path, tiny_m: Path) -> None:
    for folder in (tiny_s, tiny_m):
        keys = load_file(folder / "model.safetensors").keys()
        assert kinds_in(keys) == {"model", "autoencoder"}
        assert kinds_in(f"wrapped.{key}" for key in keys) == {"model", "autoencoder"}
        alone = [k.removeprefix("pretransform.model.") for k in keys if "pretransform" in k]
        assert kinds_in(alone) == {"autoencoder"}
        text = load_file(folder / "t5gemma-b-b-ul2" / "model.safetensors").keys()
        assert kinds_in(text) == {"text_encoder"}
    for keys in (OPEN_1_0, IMAGE, WHISPER, UMT5, (), ("__metadata__",)):
        assert kinds_in(keys) == set()


def test_the_tiny_checkpoint_as_a_user_would_place_it(tiny_s: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_s, tmp_path / "stable_audio_3" / "small-music")
    library = Library.from_models_dir(tmp_path)
    assert library.models() == library.autoencoders() == ["small-music"]
    assert library.text_encoders() == ["small-music/t5gemma-b-b-ul2"]
