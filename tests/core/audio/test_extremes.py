"""No audio ends the process that saves it: every format is tried in a process of its own."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap

import pytest
import torch

from sa3_core.audio import file
from sa3_core.audio.file import read_audio, write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.audio.waveform import resample
from sa3_core.errors import AudioError
from sa3_core.files import whole_file
from tests.helpers.support import ROOT

TRY_ALL = """
    import sys
    from pathlib import Path
    import torch
    from sa3_core.audio.file import read_audio, write_audio
    from sa3_core.audio.formats import FORMATS
    from sa3_core.errors import AudioError

    torch.set_num_threads(1)
    wave = {"noise": torch.rand(2, 3000, generator=torch.Generator().manual_seed(0)) * 2 - 1}
    wave["sine"] = torch.sin(torch.arange(3000) * 0.1).expand(2, -1)
    wave["constant"] = torch.ones(2, 3000)
    wave["click"] = torch.zeros(2, 3000).index_fill(1, torch.tensor([1500]), 1.0)
    wave["square"] = torch.sign(wave["sine"])
    powers = (1e-45, 1e-38, 1e-30, 1, 63, 100, 1e3, 1e4, 1e5, 1e6, 1e10, 1e30, 3.4e38)
    cases = {f"{name} x {p:g}": (x * p, 44100) for name, x in wave.items() for p in powers}
    for bad in ("nan", "inf", "-inf"):
        cases[bad] = (wave["sine"].index_fill(1, torch.tensor([100]), float(bad)), 44100)
    for count in (0, 1, 2, 3, 1151):
        cases[f"{count} samples"] = (wave["noise"][:, :count], 44100)
    for channels in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 64, 300):
        cases[f"{channels} channels"] = (torch.rand(channels, 2000), 44100)
    for kind in ("int16", "int32", "int64", "uint8", "bool", "float64", "float16", "bfloat16"):
        cases[kind] = ((wave["noise"] * 100).to(getattr(torch, kind)), 44100)
    cases["float64 beyond float32"] = (wave["noise"].double() * 1e300, 44100)
    for rate in (1, 7, 999, 8000, 96000, 655351, 10**6, 2**20, 2**24, 2**31 - 1, 2**31, 2**40):
        cases[f"{rate} Hz"] = (wave["noise"], rate)
        cases[f"{rate} Hz, loud"] = (wave["noise"] * 1e30, rate)
    for case, (audio, rate) in cases.items():
        print(sys.argv[1], case, flush=True)
        path = Path(sys.argv[2]) / "x"
        try:
            report = write_audio(path, audio, rate, FORMATS[sys.argv[1]])
            found, found_rate = read_audio(path)
            assert torch.isfinite(found).all(), "not finite"
            assert found_rate == report.sample_rate
            assert abs(found.shape[-1] - report.samples) <= 60, "length"
            path.unlink()
        except AudioError as error:
            print("   ", error, flush=True)
            assert "errno" not in str(error).lower()
            assert "avcodec" not in str(error)
    assert not list(Path(sys.argv[2]).iterdir())
    print("through")
"""


@pytest.mark.parametrize("name", ["flac-16", "flac-24", "wav-16", "wav-32f", "mp3-V0", "opus-64k"])
def test_no_audio_ends_the_process(tmp_path, name):
    line = [sys.executable, "-c", textwrap.dedent(TRY_ALL), name, str(tmp_path)]
    ran = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout[-500:] + ran.stderr[-1500:]
    assert ran.stdout.endswith("through\n")


@pytest.mark.parametrize("name", [name for name in FORMATS.names if name[:3] in ("mp3", "opu")])
def test_what_a_lossy_encoder_cannot_take_is_clipped_and_counted(tmp_path, name):
    audio = torch.sin(torch.arange(5000) * 0.05).expand(2, -1) * 50
    assert write_audio(tmp_path / "a", audio, 48000, FORMATS[name]).clipped == 0
    audio = audio.clone()
    audio[0, 100:110] = 1e6
    audio[1, 200] = -1e30
    report = write_audio(tmp_path / "a", audio, 48000, FORMATS[name])
    assert report.clipped == 11
    assert report.peak == pytest.approx(1e30)
    assert read_audio(tmp_path / "a")[0].abs().max() < 200


def test_samples_beyond_full_scale_are_counted(tmp_path):
    audio = torch.tensor([[0.0, 1.0, 1.5, -1.0, -2.0], [0.5, 3.0, 0.0, 0.0, 0.0]])
    assert write_audio(tmp_path / "a", audio, 44100, FORMATS["flac-16"]).clipped == 3
    assert write_audio(tmp_path / "a", audio, 44100, FORMATS["wav-32f"]).clipped == 0


def test_a_rate_that_no_audio_has_is_said_before_memory_is_taken():
    with pytest.raises(AudioError, match=r"rate is 1 Hz, with which it lasts 1e\+06 s\. Check"):
        resample(torch.zeros(2, 1_000_000), 1, 44100)
    assert resample(torch.zeros(2, 10), 1, 8000).shape == (2, 80_000)


def test_a_rate_that_flac_cannot_state_is_said(tmp_path):
    with pytest.raises(AudioError, match="rate is 1048576 Hz; FLAC 16 bit holds at most 1048575"):
        write_audio(tmp_path / "a", torch.zeros(1, 10), 2**20, FORMATS["flac-16"])


def test_more_than_a_wav_holds_is_said():
    long = torch.zeros(1, 1).expand(8, 2**27)
    with pytest.raises(AudioError, match=r"needs 4\.3 GB; a WAV file holds at most 4\.2 GB"):
        file._check_fits(long, 44100, FORMATS["wav-32f"])


class FullDisk:
    """An open file on a disk that has room for so many bytes."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, data):
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *stopped):
        self._file.close()


@pytest.mark.parametrize("name", FORMATS.names)
@pytest.mark.parametrize("room", [0, 10, 100, 1000, 5000, 12_000])
def test_a_disk_that_fills_up_is_said_wherever_it_happens(tmp_path, monkeypatch, name, room):
    real = whole_file._open_part

    def open_part(folder):
        temporary, opened, lock = real(folder)
        return temporary, FullDisk(opened, room), lock

    monkeypatch.setattr(whole_file, "_open_part", open_part)
    audio = torch.rand(2, 100_000, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with pytest.raises(AudioError, match=r"^a was not saved: the disk is full\. Free some space"):
        write_audio(tmp_path / "a", audio, 44100, FORMATS[name], {"prompt": "x" * 500})
    assert not list(tmp_path.iterdir())
