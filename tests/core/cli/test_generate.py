"""`sa3 generate`: text to audio, batches, precision, models named in every way."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from sa3_core.audio.file import read_audio
from sa3_core.codec.latent_file import read_latents
from sa3_core.geometry import samples_of
from sa3_core.networks.compiled import COMPILERS
from tests.helpers.cli_support import GENERATE, PROMPT, close_to, read_path
from tests.helpers.support import load_golden, rel_l2


def test_generate_gives_the_references_audio(sa3):
    code, out, err = sa3(
        *("generate", "--model", "tiny-s", "--prompt", PROMPT, "--seconds", 1.5, "--steps", 4),
        *("--seed", 1234, "--out", "a.wav", "--latents-out", "a.safetensors"),
    )
    assert (code, out, err) == (0, ["a.wav", "a.safetensors"], "")
    golden = load_golden("tiny-s/t2a")
    audio, rate = read_audio(read_path("a.wav"))
    assert (rate, audio.shape) == (44100, (2, 66150))
    first, last = golden.settings["audio_window"]
    assert rel_l2(audio[:, first:last], golden["audio.0"]) < 1e-4
    latents = read_latents(read_path("a.safetensors"))
    assert latents.seconds == (1.5,)
    assert close_to(latents.frames, "t2a")


@pytest.mark.parametrize(
    ("mode", "flags"),
    [
        ("t2a_euler", ("--sampler", "euler")),
        ("t2a_rk4", ("--sampler", "rk4", "--shift", "logsnr")),
        ("cfg_null", ("--sampler", "euler", "--cfg", 6)),
        (
            "cfg_blend",
            ("--cfg", 4, "--apg", 0.5, "--negative", "low quality noise distorted"),
        ),
    ],
)
def test_sampling_flags_reach_the_sampler(make, mode, flags):
    assert close_to(make("--seconds", 1.5, *flags), mode, 5e-5)


def test_other_shifts_objectives_and_automatic_values(make, sa3):
    plain = make("--seconds", 1.5)
    assert rel_l2(make("--seconds", 1.5, "--shift", "none"), plain) > 1e-3
    steps = ("--steps", 0, "--seconds", 0.1)
    base = make(*steps, "--objective", "rectified_flow", "--sampler", "auto")
    explicit = make(
        *("--seconds", 0.1, "--steps", 50, "--sampler", "euler", "--cfg", 7),
    )
    assert rel_l2(base, explicit) < 1e-6


def test_a_batch_writes_numbered_files(sa3):
    common = ("generate", "--model", "tiny-s", "--steps", 2, "--latents-out", "b.safetensors")
    code, out, _ = sa3(
        *(*common, "--prompt", "one", "two", "--prompt", "three", "--seconds", "0.5", "0:01"),
        *("--seconds", 0.7, "--negative", "a", "b", "--negative", "c", "--cfg", 2, "--seed", 9),
        *("--out", "b.flac"),
    )
    assert (code, out) == (0, ["b_1.flac", "b_2.flac", "b_3.flac", "b.safetensors"])
    lengths = [read_audio(read_path(f"b_{n}.flac"))[0].shape[1] for n in (1, 2, 3)]
    assert lengths == [22050, 44100, samples_of(0.7)]
    both = read_latents(read_path("b.safetensors"))
    assert both.seconds == (0.5, 1.0, 0.7)
    code, out, _ = sa3(
        *(*common, "--prompt", "three", "--seconds", 0.7, "--negative", "c", "--cfg", 2),
        *("--seed", 11, "--out", "alone.flac", "--force"),
    )
    assert out == ["alone.flac", "b.safetensors"]
    alone = read_latents(read_path("b.safetensors")).frames
    assert rel_l2(both.frames[2:, :, : alone.shape[2]], alone) < 1e-5


def test_one_prompt_over_several_seeds_and_durations(sa3):
    common = ("generate", "--model", "tiny-s", "--prompt", "x", "--steps", 1, "--seconds")
    assert sa3(*common, 0.5, "--seed", 1, 2, "--out", "s.wav")[1] == ["s_1.wav", "s_2.wav"]
    assert sa3(*common, 0.5, 0.6, "--out", "t.wav")[1] == ["t_1.wav", "t_2.wav"]
    one, two = (read_audio(read_path(f"s_{n}.wav"))[0] for n in (1, 2))
    assert rel_l2(one, two) > 0.1
    code, _, err = sa3(*common, 0.5, 0.6, "--seed", 1, 2, 3, "--out", "u.wav")
    assert code == 1
    assert "2 durations for 3 items" in err


def test_chunks_precision_device_and_decoder_noise(make):
    make("--seconds", 1.5)
    plain = read_audio(read_path("out.wav"))[0]
    make("--seconds", 1.5, "--chunk", 8, "--device", "cpu", "--dtype", "fp32")
    chunked = read_audio(read_path("out.wav"))[0]
    assert 0 <= rel_l2(chunked, plain) < 5e-5
    make("--seconds", 1.5, "--decoder-noise", "--noise-seed", 3)
    noisy = read_audio(read_path("out.wav"))[0]
    assert rel_l2(noisy, plain) > 1e-5
    make("--seconds", 1.5, "--decoder-noise", "--noise-seed", 3, "--chunk", 8)
    assert rel_l2(read_audio(read_path("out.wav"))[0], noisy) < 5e-5
    make("--seconds", 1.5, "--dtype", "bf16")
    assert 1e-4 < rel_l2(read_audio(read_path("out.wav"))[0], plain) < 0.2


def test_model_text_encoder_and_autoencoder_as_folder_file_and_name(make, tiny_s, tiny_m):
    plain = make("--seconds", 1.5)
    assert torch.equal(make("--seconds", 1.5, "--model", tiny_s), plain)
    file = tiny_s / "model.safetensors"
    assert torch.equal(make("--seconds", 1.5, "--model", file), plain)
    encoder = ("--text-encoder", tiny_s / "t5gemma-b-b-ul2")
    assert torch.equal(make("--seconds", 1.5, *encoder, "--model", file), plain)
    named = ("--text-encoder", "tiny-s/t5gemma-b-b-ul2")
    assert torch.equal(make("--seconds", 1.5, *named), plain)
    before = read_audio(read_path("out.wav"))[0]
    assert torch.equal(make("--seconds", 1.5, "--autoencoder", "tiny-m"), plain)
    assert rel_l2(read_audio(read_path("out.wav"))[0], before) > 0.1


def test_a_single_file_finds_its_text_encoder_in_the_models_folder(sa3, tiny_s, tmp_path):
    models = tmp_path / "models"
    (models / "checkpoints").mkdir(parents=True)
    (models / "text_encoders").mkdir()
    weights = (tiny_s / "model.safetensors").read_bytes()
    (models / "checkpoints" / "stable_audio_3_small_music.safetensors").write_bytes(weights)
    name = "checkpoints/stable_audio_3_small_music.safetensors"
    command = ("generate", "--models-dir", models, "--model", name, "--prompt", "x")
    rest = ("--seconds", 0.5, "--steps", 1, "--out", "o.wav")
    code, _, err = sa3(*command, *rest)
    assert code == 1
    assert "text_encoders" in err
    assert "--text-encoder" in err
    encoder = models / "text_encoders" / "t5"
    encoder.mkdir()
    for part in (tiny_s / "t5gemma-b-b-ul2").iterdir():
        (encoder / part.name).write_bytes(part.read_bytes())
    assert sa3(*command, *rest)[0] == 0


def test_a_model_without_autoencoder_takes_one_that_goes_with_it(sa3, tiny_s, tiny_m, tmp_path):
    models = tmp_path / "models"
    (models / "vae").mkdir(parents=True)
    prefix = "pretransform.model."
    tensors = load_file(tiny_s / "model.safetensors")
    kept = {k: v for k, v in tensors.items() if prefix not in k}
    save_file(kept, models / "vae" / "alone.safetensors")
    encoder = ("--text-encoder", tiny_s / "t5gemma-b-b-ul2")
    command = ("generate", "--models-dir", models, "--model", models / "vae" / "alone.safetensors")
    rest = (*encoder, "--prompt", "x", "--seconds", 0.5, "--steps", 1, "--out", "o.wav")
    code, _, err = sa3(*command, *rest)
    assert code == 1
    assert "no SAME-S was found" in err
    for name, folder in (("a", tiny_m), ("b", tiny_s)):  # the first does not go with it
        other = load_file(folder / "model.safetensors")
        same = {k.removeprefix(prefix): v for k, v in other.items() if prefix in k}
        save_file(same, models / "vae" / f"{name}.safetensors")
    assert sa3(*command, *rest)[0] == 0
    whole = ("generate", "--models-dir", models, "--model", tiny_s)
    assert sa3(*whole, *rest[:-1], "whole.wav")[0] == 0
    assert rel_l2(read_audio(read_path("o.wav"))[0], read_audio(read_path("whole.wav"))[0]) < 1e-6


def test_nothing_made_is_lost(sa3):
    command = ("generate", "--model", "tiny-s", "--prompt", "x", "--steps", 1, "--seconds", 0.5)
    read_path("b_2.wav").write_text("precious")
    code, out, err = sa3(*command, "--seed", 1, 2, "--out", "b.wav")
    assert (code, out) == (1, [])
    assert "b_2.wav exists already" in err
    assert "--force" in err
    assert read_path("b_2.wav").read_text() == "precious"
    assert not read_path("b_1.wav").exists()
    assert sa3(*command, "--seed", 1, 2, "--out", "b.wav", "--force")[0] == 0
    assert read_audio(read_path("b_2.wav"))[0].shape == (2, 22050)


def test_a_compiled_net_gives_the_same(make, monkeypatch):
    graphs = []
    backend = lambda graph, inputs: graphs.append(graph) or graph.forward  # noqa: E731
    monkeypatch.setitem(COMPILERS, "inductor", {"backend": backend})
    assert close_to(make("--seconds", 1.5, "--compile", "inductor"), "t2a")
    assert len(graphs) == 1


def test_cuda_graphs_need_a_card(sa3):
    code, out, err = sa3(*GENERATE, "--device", "cpu", "--compile", "cudagraphs")
    assert (code, out) == (1, [])
    assert "cudagraphs needs an NVIDIA card" in err


@pytest.mark.parametrize("name", ["int8", "fp8_e4m3"])
def test_eight_bits_store_the_transformer_alone(make, cached_pipeline, sa3, name, monkeypatch):
    loaded = []

    def remember(*arguments):
        loaded.append(cached_pipeline(*arguments))
        return loaded[-1]

    monkeypatch.setattr("sa3_core.cli.generate.load_pipeline", remember)
    plain, narrow = make("--seconds", 1.5), make("--seconds", 1.5, "--precision", name)
    model = loaded[-1].model
    assert (model.storage, model.dtype, loaded[0].model.storage) == (name, torch.float32, None)
    assert {p.dtype for p in loaded[-1].autoencoder.parameters()} == {torch.float32}
    assert 1e-4 < rel_l2(narrow, plain) < 0.08
    assert torch.equal(make("--seconds", 1.5, "--dtype", name), narrow)


def test_a_random_seed_is_told_and_makes_the_same_again(sa3):
    run = ("generate", "--model", "tiny-s", "--prompt", "x", "--steps", 1, "--seconds", 1)
    code, _, err = sa3(*run, "--seed", -1, "--out", "a.wav")
    assert code == 0, err
    seed = re.search(r"Seeds drawn: (\d+)\.", err)[1]
    code, _, err = sa3(*run, "--seed", seed, "--out", "b.wav")
    assert code == 0, err
    assert torch.equal(read_audio(read_path("a.wav"))[0], read_audio(read_path("b.wav"))[0])
    code, _, err = sa3(*run, "--variation-seed", -1, "--out", "c.wav")
    assert code == 2
    assert "is no seed" in err
