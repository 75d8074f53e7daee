"""Audio files: exact round trips, tags, lengths, and failures that leave nothing behind."""

import json
import struct
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from sa3_core.audio import file as audio_file
from sa3_core.audio.file import read_audio, sidecar_needed, write_audio, write_sidecar
from sa3_core.audio.formats import FORMATS, format_for
from sa3_core.errors import AudioError, UnknownNameError
from tests.helpers.sounds import noise, read_tags, sine

LOSSY = [name for name in FORMATS.names if name.startswith(("mp3", "opus"))]
PROMPT = json.dumps({"1": {"class_type": "SA3Sampler", "inputs": {"text": "é \\ \n = ;"}}})
WORKFLOW = json.dumps({"nodes": [], "links": [], "extra": {"note": "日本"}, "version": 0.4})


# --- exact formats -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bits"), [("flac-16", 16), ("wav-16", 16), ("flac-24", 24), ("wav-24", 24)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_integer_formats_round_and_clamp_exactly(
    tmp_path: Path, name: str, bits: int, channels: int
) -> None:
    audio = noise(channels, 70_001, level=0.5)  # more than a block, some samples beyond full scale
    step = 2.0 ** (1 - bits)
    audio[0, :8] = torch.tensor([0, 1, -1, 1 - step, 0.5 * step, 1.5 * step, -0.49 * step, -3])
    report = write_audio(tmp_path / "a", audio, 44100, FORMATS[name])
    back, rate = read_audio(tmp_path / "a")
    exact = np.rint(audio.double().numpy() * 2 ** (bits - 1))
    expected = np.clip(exact, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step
    assert rate == 44100
    assert back.dtype == torch.float32
    assert np.array_equal(back.double().numpy(), expected)
    assert report.clipped
    assert report.peak == audio.abs().max().item()
    assert (report.samples, report.sample_rate) == (70_001, 44100)


@pytest.mark.parametrize(
    ("name", "bits"), [("flac-16", 16), ("wav-16", 16), ("flac-24", 24), ("wav-24", 24)]
)
def test_writing_what_was_read_changes_nothing(tmp_path: Path, name: str, bits: int) -> None:
    whole = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (2, 5000))
    audio = whole.float() / 2 ** (bits - 1)
    first, second = tmp_path / "first", tmp_path / "second"
    assert not write_audio(first, audio, 48000, FORMATS[name]).clipped
    assert torch.equal(read_audio(first)[0], audio)
    write_audio(second, read_audio(first)[0], 48000, FORMATS[name])
    assert first.read_bytes() == second.read_bytes()


def test_float_wav_is_bit_exact_and_unclipped(tmp_path: Path) -> None:
    audio = noise(2, 70_001, level=12.0)
    audio[0, :3] = torch.tensor([1e-42, -0.0, 3e38])  # a denormal, a signed zero, nearly infinite
    report = write_audio(tmp_path / "a.wav", audio, 44100, FORMATS["wav-32f"])
    back, _ = read_audio(tmp_path / "a.wav")
    assert torch.equal(back.view(torch.int32), audio.view(torch.int32))
    assert not report.clipped
    assert report.peak > 1


@pytest.mark.parametrize("name", ["flac-16", "flac-24", "wav-16", "wav-24", "wav-32f"])
@pytest.mark.parametrize("channels", range(1, 9))
def test_channels_keep_their_order(tmp_path: Path, name: str, channels: int) -> None:
    audio = (torch.arange(channels)[:, None] + 1) / 16 * torch.ones(1, 3000)
    write_audio(tmp_path / "a", audio, 44100, FORMATS[name])
    assert torch.equal(read_audio(tmp_path / "a")[0], audio)


@pytest.mark.parametrize("samples", [1, 15, 4607, 4608, 65536, 65537])
@pytest.mark.parametrize("name", ["flac-24", "wav-32f"])
def test_any_length(tmp_path: Path, name: str, samples: int) -> None:
    audio = noise(2, samples).clamp(-1, 0.99)
    report = write_audio(tmp_path / "a", audio, 44100, FORMATS[name])
    assert report.samples == read_audio(tmp_path / "a")[0].shape[1] == samples


def test_headers_state_the_bits(tmp_path: Path) -> None:
    audio = noise(2, 500)
    for bits in (16, 24):
        write_audio(tmp_path / "a.flac", audio, 44100, FORMATS[f"flac-{bits}"])
        info = int.from_bytes((tmp_path / "a.flac").read_bytes()[18:26], "big")
        assert (
            (info >> 36) & 31
        ) + 1 == bits  # STREAMINFO: rate 20, channels 3, bits 5, samples 36
        assert info & (2**36 - 1) == 500
    for name, code, bits in (("wav-16", 1, 16), ("wav-24", 1, 24), ("wav-32f", 3, 32)):
        write_audio(tmp_path / "a.wav", audio, 44100, FORMATS[name])
        data = (tmp_path / "a.wav").read_bytes()
        kind, channels, rate, _, _, depth = struct.unpack("<HHIIHH", data[20:36])
        if kind == 0xFFFE:  # WAVE_FORMAT_EXTENSIBLE: the code leads the sub-format
            kind = struct.unpack("<H", data[44:46])[0]
        assert (kind, channels, rate, depth) == (code, 2, 44100, bits)


# --- lossy formats -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_formats_keep_length_and_sound(tmp_path: Path, name: str, channels: int) -> None:
    audio = sine(50_001, 48000, channels)
    report = write_audio(tmp_path / "a", audio, 48000, FORMATS[name])
    back, rate = read_audio(tmp_path / "a")
    assert (rate, back.shape) == (48000, audio.shape)
    assert (report.samples, report.sample_rate, report.clipped) == (50_001, 48000, False)
    inner = slice(4000, -4000)
    error = (back - audio)[:, inner].square().mean().sqrt() / audio.square().mean().sqrt()
    assert error < 0.1


@pytest.mark.parametrize("rate", [8000, 44100, 37800, 96000])
def test_rates_that_a_codec_lacks_are_resampled(tmp_path: Path, rate: int) -> None:
    audio = sine(rate // 2, rate)
    for name, expected in (
        ("opus-128k", 48000),
        ("mp3-V0", {8000: 8000, 44100: 44100, 37800: 44100, 96000: 48000}[rate]),
        ("flac-16", rate),
        ("wav-32f", rate),
    ):
        report = write_audio(tmp_path / "a", audio, rate, FORMATS[name])
        back, found = read_audio(tmp_path / "a")
        assert found == report.sample_rate == expected
        assert back.shape[1] == report.samples == expected // 2


def test_bit_rates(tmp_path: Path) -> None:
    audio = noise(2, 96_000)
    sizes = {}
    for name in LOSSY:
        write_audio(tmp_path / name, audio, 48000, FORMATS[name])
        sizes[name] = (tmp_path / name).stat().st_size * 8 / 2.0
    for name in ("mp3-128k", "mp3-192k", "mp3-320k"):
        assert sizes[name] == pytest.approx(int(name[4:-1]) * 1000, rel=0.05)
    assert sizes["mp3-192k"] < sizes["mp3-V0"] < sizes["mp3-320k"]
    opus = [sizes[f"opus-{rate}k"] for rate in (64, 96, 128, 192, 320)]
    assert opus == sorted(opus)
    assert opus[-1] > 3 * opus[0]


def test_mp3_v0_is_lames_best_variable_quality(tmp_path: Path) -> None:
    """Byte for byte what global_quality 0 (V0) gives, and more than V2."""
    audio = noise(2, 48000)
    write_audio(tmp_path / "a.mp3", audio, 44100, FORMATS["mp3-V0"])
    sizes = []
    for quality in (0, 2):
        with av.open(str(tmp_path / "q.mp3"), "w") as container:
            options = {"global_quality": str(118 * quality), "flags": "+qscale"}
            stream = container.add_stream("libmp3lame", 44100, options, layout="stereo")
            frame = av.AudioFrame.from_ndarray(audio.numpy(), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 44100, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        sizes.append((tmp_path / "q.mp3").stat().st_size)
    assert (tmp_path / "a.mp3").stat().st_size == sizes[0] > sizes[1]
    assert b"Xing" in (tmp_path / "a.mp3").read_bytes()  # "Info" would be constant bit rate


def test_lossy_formats_do_not_clip_what_they_are_given(tmp_path: Path) -> None:
    report = write_audio(tmp_path / "a.opus", sine(48000, 48000) * 3, 48000, FORMATS["opus-192k"])
    assert not report.clipped
    assert report.peak == pytest.approx(1.5, rel=1e-3)
    assert read_audio(tmp_path / "a.opus")[0].abs().max() > 1.2


# --- tags --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in FORMATS.names if not n.startswith(("wav", "m4a"))])
def test_tags_survive(tmp_path: Path, name: str) -> None:
    tags = {"prompt": PROMPT, "workflow": WORKFLOW, "title": "Größe 音", "seed": "7"}
    write_audio(tmp_path / "a", noise(2, 3000), 44100, FORMATS[name], tags)
    found = read_tags(tmp_path / "a")
    assert {key: found[key] for key in tags} == tags


@pytest.mark.parametrize("name", ["flac-24", "mp3-V0"])
def test_a_large_workflow_is_embedded_as_the_frontend_reads_it(tmp_path: Path, name: str) -> None:
    workflow = json.dumps({"nodes": [], "extra": {"x": "y" * 150_000}})
    write_audio(tmp_path / "a", noise(2, 3000), 44100, FORMATS[name], {"workflow": workflow})
    assert read_tags(tmp_path / "a")["workflow"] == workflow
    data = (tmp_path / "a").read_bytes()
    if name == "mp3-V0":
        assert data[:4] == b"ID3\x04"
        assert b"TXXX" in data[:64]
        assert b"\x03workflow\x00" + workflow.encode() in data  # UTF-8, name, text in one piece
    else:
        assert b"workflow=" + workflow.encode() in data
    assert not sidecar_needed(FORMATS[name], {"workflow": workflow})


def test_flac_leaves_out_tags_that_would_break_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tags = {"prompt": PROMPT, "workflow": "x" * 2**24}
    audio = noise(2, 3000).clamp(-1, 0.9)
    write_audio(tmp_path / "a.flac", audio, 44100, FORMATS["flac-24"], tags)
    assert read_audio(tmp_path / "a.flac")[0].shape == (2, 3000)
    assert "do not fit" in caplog.text
    assert sidecar_needed(FORMATS["flac-24"], tags)


def test_sidecar_needed() -> None:
    small = {"prompt": PROMPT, "workflow": WORKFLOW}
    large = {"prompt": PROMPT, "workflow": "x" * 50_000}
    assert not sidecar_needed(FORMATS["wav-32f"], small)
    assert not sidecar_needed(FORMATS["m4a-192k"], large)
    assert sidecar_needed(FORMATS["wav-16"], {"workflow": "x" * 2**26})
    assert not sidecar_needed(FORMATS["wav-16"], {})
    assert not sidecar_needed(FORMATS["opus-128k"], small)
    assert sidecar_needed(FORMATS["opus-128k"], large)
    assert not sidecar_needed(FORMATS["flac-16"], large)
    assert not sidecar_needed(FORMATS["mp3-V0"], large)


def test_sidecar_is_the_workflow_with_the_other_tags_in_it(tmp_path: Path) -> None:
    path = write_sidecar(
        tmp_path / "a b.wav", {"prompt": PROMPT, "workflow": WORKFLOW, "seed": "x"}
    )
    assert path == tmp_path / "a b.wav.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    tags = stored["extra"].pop("sa3_tags")
    assert stored == json.loads(WORKFLOW)
    assert tags == {"prompt": json.loads(PROMPT), "seed": "x"}
    assert [p.name for p in tmp_path.iterdir()] == ["a b.wav.json"]


def test_sidecar_without_a_workflow_is_the_prompt(tmp_path: Path) -> None:
    alone = write_sidecar(tmp_path / "a.wav", {"prompt": PROMPT})
    assert json.loads(alone.read_text()) == json.loads(PROMPT)
    more = json.loads(
        write_sidecar(tmp_path / "b.wav", {"prompt": PROMPT, "seed": "7"}).read_text()
    )
    assert more["1"].pop("_meta") == {"sa3_tags": {"seed": 7}}
    assert more == json.loads(PROMPT)
    plain = write_sidecar(tmp_path / "c.wav", {"title": "Ü", "prompt": "{}"})
    assert json.loads(plain.read_text()) == {"title": "Ü", "prompt": {}}


# --- choosing a format ---------------------------------------------------------------------------


def test_format_for() -> None:
    for file, bits, name in (
        ("a.wav", None, "wav-32f"),
        ("a.WAV", 16, "wav-16"),
        ("a.wav", 24, "wav-24"),
        ("a.flac", None, "flac-24"),
        ("a.flac", 16, "flac-16"),
        ("a.b.mp3", None, "mp3-V0"),
        ("a.opus", None, "opus-128k"),
    ):
        assert format_for(Path(file), bits) is FORMATS[name]
    with pytest.raises(AudioError, match=r"'\.ogg'; audio is saved as \.wav"):
        format_for(Path("a.ogg"))
    with pytest.raises(AudioError, match=r"ends in ''"):
        format_for(Path("a"))
    with pytest.raises(AudioError, match="32 bits; allowed: 16 or 24 bits"):
        format_for(Path("a.wav"), 32)
    with pytest.raises(AudioError, match="no bit depth"):
        format_for(Path("a.mp3"), 16)
    with pytest.raises(UnknownNameError, match="flac-24"):
        FORMATS["flac-20"]


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waveform", "rate", "message"),
    [
        (torch.zeros(1, 2, 10), 44100, r"\[1, 2, 10\].*one by one"),
        (torch.zeros(2, 0), 44100, "empty"),
        (torch.full((2, 10), float("nan")), 44100, "20 of the audio's 20 samples are NaN"),
        (torch.zeros(9, 10), 44100, "9 channels.*at most 8"),
        (torch.zeros(2, 10), 0, "sample rate is 0"),
    ],
)
def test_unusable_audio_is_not_written(
    tmp_path: Path, waveform: Tensor, rate: int, message: str
) -> None:
    with pytest.raises(AudioError, match=message):
        write_audio(tmp_path / "a.wav", waveform, rate, FORMATS["wav-32f"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mp3-V0", "opus-64k"])
def test_lossy_formats_hold_two_channels(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioError, match=r"3 channels.*at most 2.*WAV or FLAC"):
        write_audio(tmp_path / "a", torch.zeros(3, 100), 44100, FORMATS[name])


def test_unicode_names_and_replacing(tmp_path: Path) -> None:
    folder = tmp_path / "été 音楽"
    folder.mkdir()
    path = folder / "Stück №1 🎵.flac"
    path.write_bytes(b"older")
    audio = noise(2, 1000).clamp(-1, 0.9)
    assert write_audio(path, audio, 44100, FORMATS["flac-24"]).path == path
    assert read_audio(path)[0].shape == (2, 1000)
    assert [p.name for p in folder.iterdir()] == [path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are a POSIX thing")
@pytest.mark.parametrize("name", ["flac-24", "wav-32f", "mp3-320k", "opus-320k"])
@pytest.mark.parametrize("older", [False, True])
def test_a_write_that_fails_midway_leaves_nothing(tmp_path: Path, name: str, older: bool) -> None:
    import resource

    path = tmp_path / "a"
    if older:
        path.write_bytes(b"older")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(AudioError, match=r"a was not saved: .*Nothing was left behind"):
            write_audio(path, noise(2, 200_000), 48000, FORMATS[name])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([b"older"] if older else [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["flac-16", "wav-24", "mp3-V0", "opus-64k"])
def test_disk_full_says_so(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary file is a link to /dev/full: every write fails as on a full disk."""
    real_open = Path.open

    def open_full(self: Path, mode: str = "r", *args: object, **kwargs: object):
        if self.suffix == ".part":
            self.symlink_to("/dev/full")
            mode = "wb"
        return real_open(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(AudioError, match=r"disk is full\. Free some space"):
        write_audio(tmp_path / "a", noise(2, 100_000), 48000, FORMATS[name])
    with pytest.raises(AudioError, match=r"disk is full\. Free some space"):
        write_sidecar(tmp_path / "a", {"prompt": PROMPT})
    assert not list(tmp_path.iterdir())


def test_missing_folder_and_forbidden_folder(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="there is no folder"):
        write_audio(tmp_path / "no" / "a.wav", noise(2, 10), 44100, FORMATS["wav-16"])
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(AudioError, match=r"a\.wav was not saved"):
        write_audio(tmp_path / "a.wav", noise(2, 10), 44100, FORMATS["wav-16"])
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(BaseException):
        pass

    blocks = iter(range(100))

    def stored(block: Tensor, bits: int | None) -> Tensor:
        if next(blocks) == 2:
            raise Interrupted
        return block

    monkeypatch.setattr(audio_file, "_stored", stored)
    with pytest.raises(Interrupted):
        write_audio(tmp_path / "a.wav", noise(2, 300_000), 44100, FORMATS["wav-32f"])
    assert not list(tmp_path.iterdir())
