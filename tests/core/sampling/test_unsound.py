"""NaN and infinite values: refused in weights, named after sampling and decoding, never saved."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from sa3_core.audio.pictures import coloured, latent_levels
from sa3_core.checkpoints.load import load_autoencoder, load_model
from sa3_core.codec.autoencode import decode
from sa3_core.codec.latent_file import Latents, write_latents
from sa3_core.errors import CheckpointError, InputError, LatentFileError, SA3Error
from sa3_core.files.tensor_file import check_finite
from sa3_core.sampling.noise import Seeds
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning

BAD = [float("nan"), float("inf"), -float("inf")]


def _text() -> TextConditioning:
    return TextConditioning(torch.zeros(1, 1, 768), torch.ones(1, 1, dtype=torch.bool))


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("part", ["model.model.", "conditioner.", "pretransform.model."])
def test_weights_that_are_not_finite_are_refused_by_name(tiny_s, tmp_path, part, value):
    folder = tmp_path / "bad"
    shutil.copytree(tiny_s, folder)
    tensors = load_file(folder / "model.safetensors")
    name = next(k for k, v in tensors.items() if k.startswith(part) and v.is_floating_point())
    tensors[name].view(-1)[-1] = value
    save_file(tensors, folder / "model.safetensors")
    load = load_autoencoder if part.startswith("pretransform") else load_model
    with pytest.raises(CheckpointError) as error:
        load(folder)
    assert name in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_large_but_finite_weights_whose_sum_overflows_are_taken(dtype):
    large = torch.full((64,), torch.finfo(dtype).max, dtype=dtype)
    check_finite({"large": large}, "file")
    large[3] = float("inf")
    with pytest.raises(CheckpointError, match="1 of the 64 values of 'large'"):
        check_finite({"large": large}, "file")


def test_weights_that_overflow_in_float16_are_refused(tiny_s, tmp_path):
    folder = tmp_path / "bad"
    shutil.copytree(tiny_s, folder)
    tensors = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    name = next(k for k in tensors if k.startswith("model.model.") and k.endswith("weight"))
    tensors[name].view(-1)[0] = 1e6
    save_file(tensors, folder / "model.safetensors")
    load_model(folder, dtype=torch.float32)
    with pytest.raises(CheckpointError, match=r"as torch\.float16"):
        load_model(folder, dtype=torch.float16)


def test_sampling_names_the_step_the_item_and_the_cause(tiny_s):
    model = load_model(tiny_s, dtype=torch.float32)
    net = model.dit
    calls = []
    real = net.velocity

    def velocity(x, t, constants):
        calls.append(1)
        out = real(x, t, constants)
        if len(calls) > 2:
            out = out.clone()
            out[1] = float("nan")
        return out

    net.velocity = velocity
    start = StartLatent(torch.zeros(2, 256, 27), (1.0, 1.0))
    settings = SampleSettings(steps=4, sampler="euler")
    with pytest.raises(SA3Error, match=r"from step 3 of 4 on, in item 2 of 2.*float32.*LoRA"):
        sample_latent(model, start, settings, _text(), None, Seeds(1))


def test_a_start_and_a_prompt_that_are_not_finite_are_refused(tiny_s):
    model = load_model(tiny_s)
    start = StartLatent(torch.zeros(1, 256, 27), (1.0,))
    bad = replace(start, frames=torch.full((1, 256, 27), float("nan")))
    with pytest.raises(InputError, match="latent to start from"):
        sample_latent(model, bad, SampleSettings(steps=1), _text(), None, Seeds(1))
    text = TextConditioning(torch.full((1, 1, 768), float("inf")), _text().mask)
    with pytest.raises(InputError, match="encoded prompt"):
        sample_latent(model, start, SampleSettings(steps=1), text, None, Seeds(1))


@pytest.mark.parametrize("value", BAD)
def test_latents_that_are_not_finite_are_neither_decoded_nor_written(tiny_s, tmp_path, value):
    frames = torch.zeros(2, 256, 4)
    frames[1, 3, 2] = value
    latents = Latents(frames, (0.2, 0.2))
    with pytest.raises(InputError, match="item 2 of 2"):
        decode(load_autoencoder(tiny_s), latents)
    for name, part in (("a.safetensors", latents), ("a.npy", Latents(frames[1:], (0.2,)))):
        with pytest.raises(LatentFileError, match="NaN or infinite"):
            write_latents(tmp_path / name, part)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", BAD)
def test_a_picture_of_what_is_not_finite_has_colours(value):
    latent = torch.zeros(256, 30)
    latent[0, 0] = value
    assert coloured(latent_levels(latent, 8, 8)).shape == (8, 8, 3)
