"""`sa3 encode` and `sa3 decode`: latent files, audio formats."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from sa3_core.audio.file import read_audio, write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.cli import generate as cli_generate
from sa3_core.codec.latent_file import read_latents
from sa3_core.geometry import samples_of
from tests.helpers.cli_support import read_path
from tests.helpers.support import load_golden, rel_l2


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


def test_several_files_become_the_items_of_one(sa3, source, tmp_path):
    write_audio(tmp_path / "short.wav", torch.rand(1, 5000) - 0.5, 22050, FORMATS["wav-32f"])
    out = ("--model", "tiny-s", "--out")
    assert sa3("encode", "source.wav", "short.wav", *out, "both.safetensors")[0] == 0
    both = read_latents(read_path("both.safetensors"))
    assert both.frames.shape == (2, 256, 17)
    assert both.seconds == (1.5, pytest.approx(5000 / 22050, abs=3e-5))
    assert sa3("encode", "short.wav", *out, "one.safetensors")[0] == 0
    one = read_latents(read_path("one.safetensors"))
    assert torch.equal(both.frames[1:, :, :3], one.frames)
    assert sa3("encode", "source.wav", "short.wav", "--seconds", 1, *out, "c.safetensors")[0] == 0
    assert read_latents(read_path("c.safetensors")).seconds == (1.0, 1.0)
    code, _, err = sa3("encode", "source.wav", "short.wav", *out, "both.npy")
    assert code == 1
    assert "a .npy file holds one item, there are 2" in err


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
        ("a.m4a", (), None),
    ],
)
def test_formats_and_bits(sa3, monkeypatch, name, flags, wide):
    loud = 1.5 * torch.sin(torch.arange(22050) * 0.05).expand(2, -1)
    monkeypatch.setattr(cli_generate, "decode", lambda *args: [loud])
    save_file({"latents": torch.zeros(1, 256, 12)}, "loud.safetensors")
    decode = ("decode", "loud.safetensors", "--model", "tiny-s", "--peaks", "off")
    code, _, err = sa3(*decode, "--out", name, *flags)
    assert code == 0
    audio, _ = read_audio(read_path(name))
    if wide:
        assert torch.equal(audio, loud)
    elif wide is not None:
        bits = flags[1] if flags else 24
        expected = (loud * 2 ** (bits - 1)).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        assert torch.equal(audio * 2 ** (bits - 1), expected)
    assert ("peak is 1.50 and was clipped" in err) == (wide is False)


@pytest.mark.parametrize(
    ("flags", "peak", "said"),
    [
        ((), 1.0, "turned down by 3.5 dB to full scale"),
        (("--peaks", "normalise", "--ceiling-dbtp", -6), 0.501, "true peak -6 dB"),
        (("--peaks", "limit"), 0.891, "limited to -1 dBTP"),
    ],
)
def test_peaks(sa3, monkeypatch, flags, peak, said):
    loud = 1.5 * torch.sin(torch.arange(22050) * 0.05).expand(2, -1)
    monkeypatch.setattr(cli_generate, "decode", lambda *args: [loud])
    save_file({"latents": torch.zeros(1, 256, 12)}, "loud.safetensors")
    decode = ("decode", "loud.safetensors", "--model", "tiny-s")
    code, _, err = sa3(*decode, "--out", "a.flac", *flags)
    assert code == 0
    assert f"a.flac: {said}" in err
    assert "clipped" not in err
    assert float(read_audio(read_path("a.flac"))[0].abs().max()) == pytest.approx(peak, abs=1e-3)
    both = ("--peaks", "normalise", "--loudness-lufs", -14)
    code, _, err = sa3(*decode, "--out", "b.flac", *both)
    assert code == 1
    assert "--peaks is 'normalise', but a loudness is given" in err
