"""The text encoder and the autoencoder that a model takes when none is named."""

import re

import pytest
import torch
from safetensors.torch import save_file

from sa3_core.checkpoints.library import Library
from sa3_core.errors import CheckpointError
from sa3_core.files.published import TEXT_ENCODER_FOLDER, TEXT_ENCODER_URL
from tests.helpers.model_files import (
    FULL,
    SAME,
    T5,
    autoencoder_alone,
    folder_model,
    weights,
    without_autoencoder,
)


def test_the_text_encoder_of_a_model_is_its_own_else_one_that_is_found(tmp_path):
    library = Library.from_models_dir(tmp_path)
    single = weights(tmp_path / "checkpoints" / "x.safetensors", FULL)
    for wanted in (TEXT_ENCODER_FOLDER, str(tmp_path / "text_encoders"), TEXT_ENCODER_URL):
        with pytest.raises(CheckpointError, match=re.escape(wanted)):
            library.text_encoder_for(single)
    found = weights(tmp_path / "text_encoders" / "t5.safetensors", T5)
    assert library.text_encoder_for(single) == found
    own = folder_model(tmp_path / "stable_audio_3" / "own", encoder=True)
    assert library.text_encoder_for(own) == own / TEXT_ENCODER_FOLDER
    assert library.text_encoder_for(own / "model.safetensors") == own / TEXT_ENCODER_FOLDER
    (own / TEXT_ENCODER_FOLDER / "model.safetensors").unlink()  # half a download
    assert library.text_encoder_for(own) == found


WHOLE = "t5gemma_b_b_ul2.safetensors"
RAW = "t5gemma-b-b-ul2.safetensors"  # sorts before it


def test_the_text_encoder_by_default_is_one_that_can_read_prompts(tmp_path):
    library = Library.from_models_dir(tmp_path)
    place = tmp_path / "text_encoders"
    model = folder_model(tmp_path / "stable_audio_3" / "own", encoder=True)
    raw = weights(place / "a" / RAW, T5)
    assert library.text_encoder_for(raw) == model / TEXT_ENCODER_FOLDER
    (model / TEXT_ENCODER_FOLDER / "tokenizer.json").unlink()  # its own cannot, others neither
    assert library.text_encoder_for(model) == model / TEXT_ENCODER_FOLDER
    whole = weights(place / WHOLE, (*T5, "spiece_model"))
    beside = weights(place / RAW, T5)
    assert library.text_encoders()[:2] == [f"text_encoders/{RAW}", f"text_encoders/{WHOLE}"]
    assert library.text_encoder_for(model) == beside  # with the tokenizer of the one beside it
    whole.rename(place / "z.safetensors")
    assert library.text_encoder_for(model) == place / "z.safetensors"
    (place / "a" / "tokenizer.json").write_text("{}")
    assert library.text_encoder_for(model) == place / "z.safetensors"
    (place / "z.safetensors").unlink()
    assert library.text_encoder_for(model) == raw
    assert raw.parent / "tokenizer.json" in library.files_of(raw, "text_encoder")


def test_a_quantised_text_encoder_is_not_the_default(tmp_path):
    library = Library.from_models_dir(tmp_path)
    tensors = {key: torch.zeros(1) for key in (*T5, "spiece_model")}
    narrow = {"model.encoder.embed_tokens.weight": torch.zeros(1).to(torch.float8_e4m3fn)}
    (tmp_path / "text_encoders").mkdir()
    save_file({**tensors, **narrow}, tmp_path / "text_encoders" / "a.safetensors")
    whole = weights(tmp_path / "text_encoders" / "b.safetensors", (*T5, "spiece_model"))
    assert library.text_encoder_for(tmp_path) == whole


def test_damaged_models_are_listed_last_and_are_no_defaults(tmp_path, tiny_s, caplog):
    library = Library.from_models_dir(tmp_path)
    bad = folder_model(tmp_path / "stable_audio_3" / "a")
    (bad / "model.safetensors").write_bytes(b"cut")
    folder_model(tmp_path / "stable_audio_3" / "b")
    assert library.models() == library.autoencoders() == ["b", "a"]
    (tmp_path / "stable_audio_3" / "b" / "model.safetensors").unlink()
    small = without_autoencoder(tiny_s, tmp_path / "diffusion_models" / "small.safetensors")
    fitting = autoencoder_alone(tiny_s, tmp_path / "vae" / "b.safetensors")
    assert library.autoencoder_for(small) == fitting
    autoencoder_alone(tiny_s, tmp_path / "vae" / "a.safetensors").rename(tmp_path / "cut")
    weights(tmp_path / "vae" / "a.safetensors", SAME)  # cannot be opened as an autoencoder
    assert library.autoencoder_for(small) == fitting
    assert "a.safetensors is passed over" in caplog.text


def test_the_autoencoder_of_a_model_is_its_own_else_one_that_goes_with_it(tmp_path, tiny_s, tiny_m):
    library = Library.from_models_dir(tmp_path)
    assert library.autoencoder_for(tiny_s) == tiny_s
    small = without_autoencoder(tiny_s, tmp_path / "diffusion_models" / "small.safetensors")
    medium = without_autoencoder(tiny_m, tmp_path / "diffusion_models" / "medium.safetensors")
    large = autoencoder_alone(tiny_m, tmp_path / "vae" / "a.safetensors")
    assert library.autoencoder_for(medium) == large
    with pytest.raises(CheckpointError, match=r"no SAME-S was found.*same-s into"):
        library.autoencoder_for(small)
    fitting = autoencoder_alone(tiny_s, tmp_path / "vae" / "b.safetensors")
    assert library.autoencoder_for(small) == fitting
    with pytest.raises(CheckpointError, match="no SAME-L was found"):
        Library({}).autoencoder_for(medium)
