"""`sa3` as a shell user meets it: every flag, files written, exit codes, one-line errors."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sa3_core.adapters.use import AdapterUse
from sa3_core.audio.file import read_audio, write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.cli import generate as cli_generate
from sa3_core.cli import models as cli_library
from sa3_core.cli.arguments import build_parser
from sa3_core.cli.files import Bars
from sa3_core.cli.main import main
from sa3_core.cli.values import parse_lora
from sa3_core.codec.latent_file import read_latents
from sa3_core.errors import DownloadError
from sa3_core.geometry import samples_of
from sa3_core.networks.compiled import COMPILERS
from sa3_core.pipeline import load_pipeline
from tests.helpers.support import GOLDEN, ROOT, load_golden, rel_l2

PROMPT = "warm analog synth pad slow attack lush reverb 120 BPM"
LORA = GOLDEN / "tiny-s" / "adapter_stack0_lora.safetensors"
DORA = GOLDEN / "tiny-s" / "adapter_stack1_dora-rows.safetensors"


@pytest.fixture(scope="module")
def cached_pipeline():
    """Loads each pipeline once: what is tested here is the command line."""
    return lru_cache(load_pipeline)


@pytest.fixture
def sa3(monkeypatch, capsys, tiny_s, tmp_path, cached_pipeline):
    """sa3("generate", ...) -> (exit code, stdout lines, stderr); runs in tmp_path."""
    monkeypatch.setattr(cli_generate, "load_pipeline", cached_pipeline)
    monkeypatch.setenv("SA3_MODELS", str(tiny_s.parent))
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        try:
            code = main([str(arg) for arg in argv])
        except SystemExit as usage:
            code = usage.code
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


@pytest.fixture
def make(sa3):
    """make("--cfg", 2, ...) -> latents of a 1.5 s piece in 4 steps; the audio is in out.wav."""

    def run(*argv):
        code, _, err = sa3(
            *("generate", "--model", "tiny-s", "--prompt", PROMPT, "--steps", 4, "--seed", 1234),
            *("--out", "out.wav", "--latents-out", "out.safetensors", "--force", *argv),
        )
        assert code == 0, err
        return load_file("out.safetensors")["latents"]

    return run


@pytest.fixture(scope="module")
def bad(tiny_s, tmp_path_factory):
    """A folder of files that are not what they are taken for, and one good LoRA."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "old.ckpt").write_bytes(b"pickle")
    (folder / "good.safetensors").write_bytes(LORA.read_bytes())
    other = GOLDEN / "tiny-m" / "adapter_lora.safetensors"
    (folder / "medium.safetensors").write_bytes(other.read_bytes())
    image = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}
    save_file(image, folder / "image.safetensors")
    weights, prefix = load_file(tiny_s / "model.safetensors"), "pretransform.model."
    same = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    save_file(same, folder / "same.safetensors")
    cut = (tiny_s / "model.safetensors").read_bytes()[:-100]
    (folder / "cut.safetensors").write_bytes(cut)
    return folder


@pytest.fixture
def source(tmp_path):
    """source.wav: 1.5 s of stereo at 44.1 kHz; the samples."""
    audio = load_golden("tiny-s/same")["input_audio"]
    write_audio(tmp_path / "source.wav", audio, 44100, FORMATS["wav-32f"])
    return audio


def close_to(frames, mode: str, tolerance: float = 1e-5) -> bool:
    golden = load_golden(f"tiny-s/{mode}")
    valid = golden.settings["valid"][0]
    return rel_l2(frames[0, :, :valid], golden["latents.0"]) < tolerance


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


def read_path(name: str) -> Path:
    return Path.cwd() / name


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


def test_audio_to_audio(make, source):
    assert close_to(make("--init-audio", "source.wav", "--noise-level", 0.7), "a2a")
    assert close_to(make("--init-audio", "source.wav"), "a2a")  # 0.7 by default
    shorter = make("--init-audio", "source.wav", "--seconds", 1.0)
    assert read_audio(read_path("out.wav"))[0].shape == (2, 44100)
    assert shorter.shape[2] < 82


def test_inpainting(make, source):
    parity = ("--mask-rule", "upstream", "--no-paste-back")
    inpaint = ("--inpaint-audio", "source.wav", "--region", "0.4-1.1")
    assert close_to(make(*inpaint, *parity), "inpaint")
    cover = make(
        "--inpaint-audio", "source.wav", "--region", "0.4-0.6", "1-1.1", "--region", "0-1%"
    )
    assert not close_to(cover, "inpaint")
    audio = read_audio(read_path("out.wav"))[0]
    kept = slice(int(0.61 * 44100), 44100)
    assert torch.equal(audio[:, kept], source[:, kept])
    assert not torch.equal(audio[:, :600], source[:, :600])
    bars = ("--region", "bar 2-3", "--bpm", 240, "--beats-per-bar", 2)
    make("--inpaint-audio", "source.wav", *bars, "--noise-level", 0.9)
    audio = read_audio(read_path("out.wav"))[0]
    assert torch.equal(audio[:, :22050], source[:, :22050])
    assert torch.equal(audio[:, 44100:], source[:, 44100:])


def test_continuation(make, source):
    more = ("--continue-audio", "source.wav", "--add", 2.5)
    frames = make(*more, "--mask-rule", "upstream", "--no-paste-back")
    assert close_to(frames, "continuation")
    make(*more)
    audio = read_audio(read_path("out.wav"))[0]
    assert audio.shape == (2, 176400)
    assert torch.equal(audio[:, :66150], source)


def test_loras_stack(make):
    frames = make("--seconds", 1.5, "--lora", LORA, "--lora", f"{DORA}:1")
    golden = load_golden("tiny-s/lora_stack")["latents"]
    assert rel_l2(frames[:, ::4, :81], golden[..., :81]) < 1e-5


def test_lora_strength_interval_and_filter(make):
    plain = make("--seconds", 1.5)
    half = make("--seconds", 1.5, "--lora", f"{GOLDEN}/tiny-s/adapter_bora.safetensors:0.5")
    golden = load_golden("tiny-s/lora_bora_strength0.5")["latents"]
    assert rel_l2(half[:, ::4, :81], golden[..., :81]) < 1e-5
    assert torch.equal(make("--seconds", 1.5, "--lora", f"{LORA}:0"), plain)
    full = make("--seconds", 1.5, "--lora", LORA)
    late = make("--seconds", 1.5, "--lora", LORA, "--lora-interval", "0-0.5")
    attention = make("--seconds", 1.5, "--lora", LORA, "--lora-filter", "self_attn, layers[0]")
    for one, other in ((full, plain), (late, plain), (late, full), (attention, full)):
        assert rel_l2(one, other) > 1e-4
    both = make(
        *("--seconds", 1.5, "--lora", LORA, "--lora-interval", "0-0.5"),
        *("--lora", f"{DORA}:0", "--lora-filter", "self_attn"),
    )
    assert torch.equal(both, late)  # the options belong to the LoRA before them


def test_a_lora_is_found_by_name_in_the_models_folder(make, tiny_s, tmp_path):
    loras = tmp_path / "models" / "loras"
    loras.mkdir(parents=True)
    (loras / "mine.safetensors").write_bytes(LORA.read_bytes())
    named = make(
        *("--models-dir", tmp_path / "models", "--model", tiny_s),
        *("--seconds", 1.5, "--lora", "mine.safetensors"),
    )
    assert torch.equal(named, make("--seconds", 1.5, "--lora", LORA))


def test_xs_loras_use_the_files_weights_and_keep_their_bases(make, tmp_path):
    path = tmp_path / "xs.safetensors"
    path.write_bytes((GOLDEN / "tiny-s" / "adapter_dora-rows-xs.safetensors").read_bytes())
    frames = make("--seconds", 1.5, "--lora", path)
    golden = load_golden("tiny-s/lora_dora-rows-xs")["latents"]
    assert rel_l2(frames[:, ::4, :81], golden[..., :81]) < 5e-5
    assert list(tmp_path.glob("*.sa3_svd"))


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


def test_encode_then_decode(sa3, source, tiny_s):
    golden = load_golden("tiny-s/same")["latents_encoded"]
    code, out, err = sa3("encode", "source.wav", "--model", "tiny-s", "--out", "e.safetensors")
    assert (code, out, err) == (0, ["e.safetensors"], "")
    latents = read_latents(read_path("e.safetensors"))
    assert latents.frames.shape == (1, 256, 17)  # ceil(66150 / 4096)
    assert latents.seconds == (1.5,)
    assert rel_l2(latents.frames, golden) < 1e-5
    place = ("--device", "cpu", "--dtype", "fp32", "--chunk", 4)
    chunked = ("encode", "source.wav", "--model", tiny_s, "--out", "e.npy")
    assert sa3(*chunked, *place)[0] == 0
    assert rel_l2(read_latents(read_path("e.npy")).frames, golden) < 5e-5

    assert sa3("decode", "e.safetensors", "--model", "tiny-s", "--out", "d.wav")[1] == ["d.wav"]
    audio, rate = read_audio(read_path("d.wav"))
    assert (rate, audio.shape) == (44100, (2, 66150))
    assert sa3("decode", "e.npy", "--model", tiny_s, "--out", "n.wav", *place)[0] == 0
    from_npy, _ = read_audio(read_path("n.wav"))
    assert from_npy.shape == (2, 17 * 4096)  # a .npy file states no duration
    assert rel_l2(from_npy[:, :66150], audio) < 5e-5
    noise = ("--decoder-noise", "--noise-seed", 1)
    assert sa3("decode", "e.safetensors", "--model", "tiny-s", "--out", "z.wav", *noise)[0] == 0
    assert rel_l2(read_audio(read_path("z.wav"))[0], audio) > 1e-5


def test_odd_sources_round_trip_to_the_sample(sa3, tmp_path):
    # A third of all lengths would lose a sample if seconds were just N / 44100.
    length = next(n for n in range(44100, 45000) if int(n / 44100 * 44100) < n)
    write_audio(tmp_path / "mono.wav", torch.rand(1, length) - 0.5, 44100, FORMATS["wav-32f"])
    assert sa3("encode", "mono.wav", "--model", "tiny-s", "--out", "m.safetensors")[0] == 0
    assert sa3("decode", "m.safetensors", "--model", "tiny-s", "--out", "m.wav")[0] == 0
    assert read_audio(read_path("m.wav"))[0].shape == (2, length)
    write_audio(tmp_path / "high.wav", torch.rand(2, 48001) - 0.5, 48000, FORMATS["wav-32f"])
    assert sa3("encode", "high.wav", "--model", "tiny-s", "--out", "h.safetensors")[0] == 0
    assert read_latents(read_path("h.safetensors")).seconds[0] == pytest.approx(
        48001 / 48000, abs=3e-5
    )


def test_decoding_a_batch_numbers_and_trims(sa3):
    generator = torch.Generator().manual_seed(0)
    save_file(
        {
            "latents": torch.randn(2, 256, 12, generator=generator),
            "seconds": torch.tensor([0.5, 1.1], dtype=torch.float64),
        },
        "two.safetensors",
    )
    code, out, _ = sa3("decode", "two.safetensors", "--model", "tiny-s", "--out", "two.flac")
    assert (code, out) == (0, ["two_1.flac", "two_2.flac"])
    lengths = [read_audio(read_path(f"two_{n}.flac"))[0].shape[1] for n in (1, 2)]
    assert lengths == [22050, samples_of(1.1)]


@pytest.mark.parametrize(
    ("name", "flags", "wide"),
    [
        ("a.wav", (), True),
        ("a.wav", ("--bits", 24), False),
        ("a.wav", ("--bits", 16), False),
        ("a.flac", (), False),
        ("a.flac", ("--bits", 16), False),
        ("a.mp3", (), None),
        ("a.opus", (), None),
    ],
)
def test_formats_and_bits(sa3, monkeypatch, name, flags, wide):
    loud = 1.5 * torch.sin(torch.arange(22050) * 0.05).expand(2, -1)
    monkeypatch.setattr(cli_generate, "decode", lambda *args: [loud])
    save_file({"latents": torch.zeros(1, 256, 12)}, "loud.safetensors")
    code, _, err = sa3("decode", "loud.safetensors", "--model", "tiny-s", "--out", name, *flags)
    assert code == 0
    audio, _ = read_audio(read_path(name))
    if wide:
        assert torch.equal(audio, loud)
    elif wide is not None:
        bits = flags[1] if flags else 24
        expected = (loud * 2 ** (bits - 1)).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        assert torch.equal(audio * 2 ** (bits - 1), expected)
    assert ("peak is 1.50 and was clipped" in err) == (wide is False)


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


GENERATE = ("generate", "--model", "tiny-s", "--prompt", "x", "--out", "o.wav")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((*GENERATE, "--seconds", 0), "more than 0 and at most"),
        ((*GENERATE, "--seconds", "-3"), "-3"),
        ((*GENERATE, "--seconds", "nan"), "nan"),
        ((*GENERATE, "--seconds", 500), "at most"),
        ((*GENERATE, "--steps", "-1"), "error: --steps is -1; it must be"),
        ((*GENERATE, "--cfg", "nan"), "error: --cfg is nan"),
        ((*GENERATE, "--apg", 2), "error: --apg is 2"),
        ((*GENERATE, "--chunk", "-4"), "error: --chunk is -4"),
        ((*GENERATE, "--device", "quantum"), "error: --device is 'quantum'"),
        ((*GENERATE, "--device", "cuda:99"), "no 'cuda:99'"),
        ((*GENERATE, "--model", "medium"), "sa3 download medium"),
        ((*GENERATE, "--model", "/none/such"), "no such file or folder"),
        ((*GENERATE, "--model", "BAD/same.safetensors"), "SAME autoencoder only"),
        ((*GENERATE, "--model", "BAD/image.safetensors"), "not a Stable Audio 3 file"),
        ((*GENERATE, "--model", "BAD/cut.safetensors"), "cut short"),
        ((*GENERATE, "--text-encoder", "none"), "no text encoder 'none'"),
        ((*GENERATE, "--out", "none/o.wav"), "no folder"),
        ((*GENERATE, "--out", "o.ogg"), "saved as .wav, .flac, .mp3 or .opus"),
        ((*GENERATE, "--out", "o.mp3", "--bits", 16), "cannot be saved with 16 bits"),
        ((*GENERATE, "--latents-out", "o.pt"), ".safetensors or .npy"),
        ((*GENERATE, "--seed", 1, 2, "--latents-out", "o.npy"), "holds one item"),
        ((*GENERATE, "--init-audio", "none.wav"), "no audio file"),
        (
            (*GENERATE, "--init-audio", "source.wav", "--noise-level", 2),
            "error: --noise-level is 2.0; it must be",
        ),
        ((*GENERATE, "--inpaint-audio", "source.wav", "--region", "1-0.5"), "reversed"),
        ((*GENERATE, "--inpaint-audio", "source.wav", "--region", "bar 2"), "BPM"),
        ((*GENERATE, "--inpaint-audio", "source.wav", "--region", "9-10"), "continue the audio"),
        (
            (*GENERATE, "--continue-audio", "source.wav", "--add", 0),
            "error: --add is 0.0; it must be",
        ),
        ((*GENERATE, "--lora", "none.safetensors"), "none.safetensors"),
        ((*GENERATE, "--lora", "BAD/old.ckpt"), "pickle"),
        ((*GENERATE, "--lora", "BAD/medium.safetensors"), "does not fit this model"),
        (
            (*GENERATE, "--lora", "BAD/good.safetensors", "--lora-filter", "xyz"),
            "error: --lora-filter is 'xyz'",
        ),
        (("encode", "none.wav", "--model", "tiny-s", "--out", "l.npy"), "no audio file"),
        (("encode", "source.wav", "--model", "tiny-s", "--out", "l.wav"), "latent files end in"),
        (("encode", "source.wav", "--model", "none", "--out", "l.npy"), "no autoencoder 'none'"),
        (("decode", "none.npy", "--model", "tiny-s", "--out", "o.wav"), "no such file"),
        (("decode", "BAD/good.safetensors", "--model", "tiny-s", "--out", "o.wav"), "'latents'"),
        (("download", "medum"), "Did you mean 'medium'?"),
        (("merge", "--model", "tiny-s", "--lora", "none", "--out", "m"), "LoRA"),
        (
            (
                "merge",
                "--model",
                "tiny-s",
                "--lora",
                "BAD/medium.safetensors",
                "--out",
                "m.safetensors",
            ),
            "does not fit this model",
        ),
        (("merge", "--model", "tiny-s", "--lora", LORA, "--out", "a/b/m"), "there is no folder"),
    ],
)
def test_errors_are_one_line_and_exit_1(sa3, source, bad, argv, message):
    argv = [str(arg).replace("BAD", str(bad)) for arg in argv]
    before = sorted(read_path(".").iterdir())
    code, out, err = sa3(*argv)
    assert (code, out) == (1, [])
    assert err.startswith("sa3: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(read_path(".").iterdir()) == before


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


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "COMMAND"),
        (("sing",), "invalid choice"),
        (("merge", "--model", "tiny-s", "--out", "m"), "--lora"),
        (("merge", "--lora-filter", "x"), "must come after the --lora"),
        (("generate", "--model", "tiny-s", "--out", "o.wav"), "--prompt"),
        ((*GENERATE, "--sampler", "eulr"), "invalid choice: 'eulr'"),
        ((*GENERATE, "--shift", "x"), "invalid choice"),
        ((*GENERATE, "--objective", "x"), "invalid choice"),
        ((*GENERATE, "--dtype", "int8"), "invalid choice"),
        ((*GENERATE, "--mask-rule", "x"), "invalid choice"),
        ((*GENERATE, "--bits", 20), "invalid choice"),
        ((*GENERATE, "--seconds", "ten"), "is no time"),
        ((*GENERATE, "--step", 4), "unrecognized"),
        ((*GENERATE, "--inpaint-audio", "a.wav"), "--inpaint-audio needs --region"),
        ((*GENERATE, "--region", "1-2"), "--region needs --inpaint-audio"),
        ((*GENERATE, "--continue-audio", "a.wav"), "--continue-audio needs --add"),
        ((*GENERATE, "--add", 3), "--add needs --continue-audio"),
        (
            (*GENERATE, "--continue-audio", "a.wav", "--add", 3, "--seconds", 9),
            "does not go with --continue-audio",
        ),
        ((*GENERATE, "--noise-level", 0.5), "--noise-level needs"),
        ((*GENERATE, "--bpm", 120), "--bpm needs --region"),
        ((*GENERATE, "--init-audio", "a", "--inpaint-audio", "b"), "not allowed with"),
        ((*GENERATE, "--lora-interval", "0-1"), "must come after the --lora"),
        ((*GENERATE, "--lora", "a", "--lora-interval", "0.9-0.2"), "MIN-MAX within 0-1"),
        ((*GENERATE, "--lora", "a", "--lora-interval", "low"), "MIN-MAX within 0-1"),
        ((*GENERATE, "--lora", "aa:nan"), "finite"),
        ((*GENERATE, "--lora", "a", "--lora-filter", "[3"), "--lora-filter: the filter is '[3'"),
    ],
)
def test_wrong_usage_exits_2(sa3, argv, message):
    code, out, err = sa3(*argv)
    assert (code, out) == (2, [])
    assert message in err


@pytest.mark.parametrize(
    ("text", "file", "strength"),
    [
        ("a.safetensors", "a.safetensors", 1.0),
        ("a.safetensors:0.8", "a.safetensors", 0.8),
        ("dir/a.safetensors:-2", "dir/a.safetensors", -2.0),
        (r"C:\x.safetensors", r"C:\x.safetensors", 1.0),
        (r"C:\x.safetensors:0.8", r"C:\x.safetensors", 0.8),
        ("C:/x.safetensors:1e-1", "C:/x.safetensors", 0.1),
        (r"\\server\share\x.safetensors:3", r"\\server\share\x.safetensors", 3.0),
        ("odd:name.safetensors", "odd:name.safetensors", 1.0),
        ("C:1", "C:1", 1.0),
    ],
)
def test_lora_files_and_strengths(text, file, strength):
    assert parse_lora(text) == AdapterUse(file, strength)


def test_models_lists_what_is_there_and_what_is_known(sa3, tiny_s, tmp_path):
    code, out, err = sa3("models", "--models-dir", tiny_s.parent)
    assert (code, err) == (0, "")
    rows = {line.split("  ")[0]: line for line in out}
    assert str(tiny_s) in rows["tiny-s"]
    assert "text encoder" in rows["tiny-s/t5gemma-b-b-ul2"]
    assert "sa3 download medium" in rows["medium"]
    assert "autoencoder" in rows["same-l"]
    code, out, _ = sa3("models", "--models-dir", tmp_path / "none")
    assert len(out) == 8
    assert all("sa3 download" in line for line in out)


def test_the_models_folder_is_looked_for_in_three_places(sa3, monkeypatch, tiny_s, tmp_path):
    monkeypatch.delenv("SA3_MODELS")
    assert not any(line.startswith("tiny-s ") for line in sa3("models")[1])
    (tmp_path / "models" / "tiny-x").mkdir(parents=True)
    for part in ("model.safetensors", "model_config.json"):
        (tmp_path / "models" / "tiny-x" / part).write_bytes((tiny_s / part).read_bytes())
    assert any(line.startswith("tiny-x ") for line in sa3("models")[1])
    monkeypatch.setenv("SA3_MODELS", str(tiny_s.parent))
    assert any(line.startswith("tiny-s ") for line in sa3("models")[1])


def test_download_goes_to_the_models_folder(sa3, monkeypatch, tmp_path):
    asked = []

    def fake(name, root, source, on_bytes):
        asked.append((name, root, source))
        on_bytes(1, 2)
        if source == "mirror":
            raise DownloadError("The mirror is gated.")
        return root / name

    monkeypatch.setattr(cli_library, "download_variant", fake)
    code, out, _ = sa3("download", "small-sfx", "--models-dir", tmp_path)
    root = tmp_path / "stable_audio_3"
    assert (code, out) == (0, [str(root / "small-sfx")])
    code, _, err = sa3("download", "small-sfx", "--source", "mirror", "--models-dir", tmp_path)
    assert (code, err) == (1, "sa3: error: The mirror is gated.\n")
    assert asked == [("small-sfx", root, "upstream"), ("small-sfx", root, "mirror")]


def test_merge_gives_what_the_loras_give(sa3, make, tiny_s):
    patched = make("--seconds", 1.5, "--lora", LORA, "--lora", f"{DORA}:0.5")
    code, out, err = sa3(
        *("merge", "--model", "tiny-s", "--lora", LORA, f"{DORA}:0.5", "--out", "merged"),
        "--copy-text-encoder",
    )
    assert (code, out, err) == (0, [str(Path("merged", "model.safetensors"))], "")
    assert rel_l2(make("--seconds", 1.5, "--model", "./merged"), patched) < 1e-6
    again = ("merge", "--model", "tiny-s", "--lora", f"{LORA}:0", "--out", "merged")
    assert sa3(*again)[0] == 1  # it exists
    assert sa3(*again, "--force")[0] == 0
    weights = load_file("merged/model.safetensors")
    for key, value in load_file(tiny_s / "model.safetensors").items():
        assert torch.equal(weights[key], value)


def test_merge_into_one_file_in_another_precision(sa3, make):
    merge = ("merge", "--model", "tiny-s", "--lora", LORA, "--lora-filter", "layers[0]")
    code, out, _ = sa3(*merge, "--dtype", "bf16", "--out", "m.safetensors")
    assert (code, out) == (0, ["m.safetensors"])
    merged = load_file("m.safetensors")
    assert merged["model.model.preprocess_conv.weight"].dtype == torch.bfloat16
    encoder = ("--text-encoder", "tiny-s/t5gemma-b-b-ul2")
    filtered = make("--seconds", 1.5, "--lora", LORA, "--lora-filter", "layers[0]")
    assert rel_l2(make("--seconds", 1.5, "--model", "./m.safetensors", *encoder), filtered) < 0.1
    code, _, err = sa3(*merge, "--out", "n.safetensors", "--copy-text-encoder")
    assert code == 1
    assert "only be copied into a folder" in err


def test_merging_a_base_model_into_one_file_warns(sa3, tiny_s, tmp_path):
    base = tmp_path / "mine-base"
    base.mkdir()
    (base / "model.safetensors").write_bytes((tiny_s / "model.safetensors").read_bytes())
    config = (tiny_s / "model_config.json").read_text()
    (base / "model_config.json").write_text(config.replace("rf_denoiser", "rectified_flow"))
    code, _, err = sa3("merge", "--model", base, "--lora", LORA, "--out", "m.safetensors")
    assert code == 0
    assert "--objective rectified_flow" in err
    assert sa3("merge", "--model", base, "--lora", LORA, "--out", "m_base.safetensors")[2] == ""


def test_warnings_go_to_stderr_and_the_run_goes_on(sa3):
    code, out, err = sa3(
        *("generate", "--model", "tiny-s", "--prompt", "word " * 300, "--negative", "x"),
        *("--steps", 1, "--seconds", 0.5, "--out", "w.wav"),
    )
    assert (code, out) == (0, ["w.wav"])
    lines = err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("sa3: warning: ") for line in lines)
    assert any("tokens; only the first 256" in line for line in lines)
    assert any("no effect at cfg 1" in line for line in lines)


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "sa3: interrupted"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "out of memory"),
        (torch.cuda.OutOfMemoryError("CUDA"), 1, "out of memory"),
        (MemoryError(), 1, "out of memory"),
        (PermissionError(13, "Permission denied", "x"), 1, "Permission denied"),
    ],
)
def test_what_can_happen_to_a_run(sa3, monkeypatch, failure, code, message):
    def fails(*args):
        raise failure

    monkeypatch.setattr(cli_generate, "generate", fails)
    got, out, err = sa3(*GENERATE, "--seconds", 0.5)
    assert (got, out) == (code, [])
    assert message in err
    assert err.count("\n") == 1


def test_our_own_mistakes_are_not_hidden(sa3, monkeypatch):
    def fails(*args):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(cli_generate, "generate", fails)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        sa3(*GENERATE, "--seconds", 0.5)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_bars_only_on_a_terminal(monkeypatch):
    for stream, shown in ((_Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with Bars() as on_progress:
            on_progress("sample", 1, 2)
            on_progress("sample", 2, 2)
            on_progress("decode", 1, 1)
        text = stream.getvalue()
        assert ("sample: 100%" in text and "decode: 100%" in text) == shown


def test_every_command_explains_itself(sa3):
    for command in ("generate", "encode", "decode", "models", "download", "merge"):
        code, out, _ = sa3(command, "--help")
        assert code == 0
        assert "Exit codes: 0 done, 1 error" in "\n".join(out)
    assert sa3("--version")[1][0].startswith("sa3 ")
    assert "generate" in build_parser().format_help()


def test_as_a_program(tiny_s, tmp_path):
    command = [sys.executable, "-m", "sa3_core", *GENERATE, "--seconds", "0.5", "--steps", "1"]
    done = subprocess.run(
        [*command, "--models-dir", str(tiny_s.parent)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "o.wav\n", "")
    assert read_audio(tmp_path / "o.wav")[0].shape == (2, 22050)
