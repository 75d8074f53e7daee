"""Reading audio files: what is no audio, what is damaged, what other programs write."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from sa3_core.audio.file import read_audio, write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.errors import AudioError
from tests.helpers.sounds import noise, sine

LOSSY = [name for name in FORMATS.names if name.startswith(("mp3", "opus"))]


def test_reading_what_is_no_audio(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"no audio file .*gone\.wav"):
        read_audio(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match="no audio file"):
        read_audio(tmp_path)
    for content in (b"", b"hello", bytes(1000)):
        (tmp_path / "x.wav").write_bytes(content)
        with pytest.raises(AudioError, match=r"x\.wav cannot be read.*damaged"):
            read_audio(tmp_path / "x.wav")


def test_reading_a_video_without_sound(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match=r"v\.mkv holds no audio\."):
        read_audio(path)


def test_reading_a_file_with_no_samples(tmp_path: Path) -> None:
    header = (
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0data\0\0\0\0"
    )
    (tmp_path / "x.wav").write_bytes(header)
    with pytest.raises(AudioError, match=r"no audio samples|cannot be read"):
        read_audio(tmp_path / "x.wav")


@pytest.mark.parametrize(
    ("name", "cut"), [("flac-16", True), ("flac-16", False), ("opus-96k", False)]
)
def test_reading_damage(tmp_path: Path, name: str, cut: bool) -> None:
    path = tmp_path / "x"
    write_audio(path, noise(2, 200_000), 48000, FORMATS[name])
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:half] if cut else data[:half] + bytes(3000) + data[half + 3000 :])
    with pytest.raises(AudioError, match=r"x cannot be read: only .* s can be decoded.*damaged"):
        read_audio(path)


def test_a_damaged_mp3_gives_what_is_left_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.mp3"
    write_audio(path, noise(2, 200_000), 48000, FORMATS["mp3-192k"])
    data = path.read_bytes()
    path.write_bytes(data[:30_000] + bytes(3000) + data[33_000:])
    assert 180_000 < read_audio(path)[0].shape[1] < 200_000
    assert "x.mp3: parts of it cannot be decoded; 4." in caplog.text


def test_foreign_bytes_after_an_mp3_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.mp3"
    write_audio(path, sine(44100, 44100), 44100, FORMATS["mp3-320k"])
    clean, _ = read_audio(path)
    assert not caplog.text
    path.write_bytes(path.read_bytes() + bytes(range(256)) * 20)
    back, _ = read_audio(path)
    assert torch.equal(back[:, :44100], clean)
    assert "parts of it cannot be decoded" in caplog.text


def test_reading_other_sample_types(tmp_path: Path) -> None:
    """8-bit, 32-bit and double WAVs, each scaled by its own full scale."""
    cases = {
        "pcm_u8": ("u8", np.array([[0, 128, 255, 64]], np.uint8), [-1, 0, 127 / 128, -0.5]),
        "pcm_s32le": (
            "s32",
            np.array([[-(2**31), 2**30, 0, 2**8]], np.int32),
            [-1, 0.5, 0, 2**-23],
        ),
        "pcm_f64le": ("dbl", np.array([[-2.5, 0.125, 0, 1]], np.float64), [-2.5, 0.125, 0, 1]),
    }
    for codec, (sample_format, samples, expected) in cases.items():
        with av.open(str(tmp_path / "x.wav"), "w") as container:
            stream = container.add_stream(codec, rate=22050, layout="mono")
            frame = av.AudioFrame.from_ndarray(samples, format=sample_format, layout="mono")
            frame.sample_rate, frame.pts = 22050, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        audio, rate = read_audio(tmp_path / "x.wav")
        assert rate == 22050
        assert audio.tolist() == [expected], codec


# --- files that are cut short, tags of other alphabets ------------------------------------------
WHOLE = {
    "wav": "pcm_s16le",
    "w64": "pcm_s16le",
    "caf": "pcm_s16le",
    "avi": "pcm_s16le",
    "aiff": "pcm_s16be",
    "au": "pcm_s16be",
    "flac": "flac",
}


def whole_sound(path, codec, layout="s16"):
    """A second of stereo sound in a container of FFmpeg's."""
    import av

    rate = 48000 if codec == "libopus" else 44100
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        stream.codec_context.format = layout
        ramp = np.arange(2 * 44100, dtype=np.int16).reshape(1, -1)
        samples = ramp if layout == "s16" else ramp.reshape(2, -1).astype(np.float32) / 2**15
        frame = av.AudioFrame.from_ndarray(samples, format=layout, layout="stereo")
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0.5, 0.999])
def test_a_file_that_is_cut_short_is_not_a_shorter_piece(tmp_path, kind, share):
    path = whole_sound(tmp_path / f"whole.{kind}", WHOLE[kind])
    assert read_audio(path)[0].shape[-1] == 44100
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(AudioError, match=r"whole\.\w+ cannot be read: "):
        read_audio(path)


@pytest.mark.parametrize(("kind", "label"), [("mp3", "mp3-V0"), ("opus", "opus-96k")])
def test_a_compressed_file_that_is_cut_short_says_so(tmp_path, caplog, kind, label):
    path = tmp_path / f"whole.{kind}"
    write_audio(path, torch.rand(2, 4 * 48000) - 0.5, 48000, FORMATS[label])
    read_audio(path)
    assert not caplog.records
    data = path.read_bytes()
    for share in (0.5, 0.9, 0.999):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(AudioError, match="it is cut short, "):
            read_audio(path)
    if kind == "mp3":
        tagged = b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + data
        path.write_bytes(tagged)
        assert read_audio(path)[0].shape[-1] >= 4 * 48000
        path.write_bytes(tagged[:-1000])
        with pytest.raises(AudioError, match="it is cut short, "):
            read_audio(path)
        return
    ends = [i for i in range(1, len(data)) if data[i : i + 5] == b"OggS\0"]
    path.write_bytes(data[: ends[-1]])  # on the edge of a page, as recorders leave it
    read_audio(path)
    assert "is it cut short?" in caplog.text


@pytest.mark.parametrize(
    ("suffix", "codec", "layout"),
    [
        ("mka", "pcm_s16le", "s16"),
        ("mkv", "libmp3lame", "fltp"),
        ("webm", "libopus", "s16"),
        ("m4a", "aac", "fltp"),
        ("mov", "pcm_s16le", "s16"),
    ],
)
def test_a_container_states_its_length(tmp_path, caplog, suffix, codec, layout):
    path = whole_sound(tmp_path / f"whole.{suffix}", codec, layout)
    assert abs(read_audio(path)[0].shape[-1] - 44_100) < 3000
    assert not caplog.records
    data = path.read_bytes()
    for share in (0.5, 0.9, 0.999):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(AudioError, match=r"whole\.\w+ cannot be read: it is cut short, \d+ of"):
            read_audio(path)


@pytest.mark.parametrize("name", ["flac-16", "flac-24"])
def test_a_flac_knows_its_own_sound(tmp_path, name):
    path = tmp_path / "a.flac"
    for channels, samples in ((1, 1), (2, 70_001), (6, 5000)):
        write_audio(path, noise(channels, samples), 44100, FORMATS[name])
        read_audio(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(AudioError, match=r"a\.flac cannot be read: .*checksum|decoded"):
        read_audio(path)
    data = bytearray((path.write_bytes(bytes(data)), path.read_bytes())[1])
    data[26:42] = bytes(16)  # an encoder that wrote to a pipe left it out
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert read_audio(path)[0].shape == (6, 5000)


def test_a_wav_written_to_a_pipe_states_no_length_and_is_read(tmp_path):
    path = whole_sound(tmp_path / "pipe.wav", "pcm_s16le")
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = data[4:8] = b"\xff" * 4
    path.write_bytes(data)
    assert read_audio(path)[0].shape[-1] == 44100


def test_tags_that_are_not_utf8_do_not_keep_a_file_from_being_read(tmp_path):
    path = whole_sound(tmp_path / "tagged.wav", "pcm_s16le")
    data = path.read_bytes()
    tag = (
        b"LIST" + (16).to_bytes(4, "little") + b"INFOINAM" + (4).to_bytes(4, "little") + b"caf\xe9"
    )
    size = len(data) + len(tag) - 8
    path.write_bytes(data[:4] + size.to_bytes(4, "little") + data[8:] + tag)
    assert read_audio(path)[0].shape[-1] == 44100
