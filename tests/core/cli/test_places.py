"""Where the command line writes: names that nobody else has, disks that fill up, odd paths."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from sa3_core.audio.file import read_audio
from sa3_core.cli import generate as cli_generate
from sa3_core.cli import models
from sa3_core.codec.latent_file import read_latents
from sa3_core.files import whole_file
from sa3_core.files.names import name_fault
from sa3_core.files.whole_file import claim_folder
from tests.core.files.test_whole_file import SAVES, script, together
from tests.helpers.cli_support import GENERATE, LORA
from tests.helpers.support import tiny_checkpoint

LONG = "x" * 300

RACE = """
    import argparse, sys
    from pathlib import Path
    import torch
    from sa3_core.audio.formats import FORMATS
    from sa3_core.cli.files import place_for, write_takes, written_as
    from sa3_core.codec.latent_file import Latents, write_latents
    from sa3_core.pipeline import Take

    folder, saves, who = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    args = argparse.Namespace(force=False, loudness_lufs=0.0, peaks="auto", ceiling_dbtp=-1.0)
    torch.set_num_threads(1)

    def save(number):
        value = (int(who) * 1000 + number) / 8192
        take = Take(torch.full((1, 3), value), 44100)
        yield write_takes(args, [folder / f"{number}.wav"], [take], FORMATS["wav-16"])[0]
        path = folder / f"{number}.npy"
        latents = Latents(torch.full((1, 256, 1), value), (0.05,))
        yield written_as(path, write_latents(place_for(path, args.force), latents))

    print("ready", flush=True)
    sys.stdin.readline()
    paths = [path for number in range(saves) for path in save(number)]
    assert len(set(paths)) == 2 * saves
    Path(folder, f"{who}.txt").write_text("\\n".join(paths))
"""


def test_two_programs_that_write_the_same_names_lose_nothing(tmp_path: Path) -> None:
    together(RACE, tmp_path, SAVES)
    said = [path for who in "12" for path in (tmp_path / f"{who}.txt").read_text().splitlines()]
    assert len(set(said)) == 4 * SAVES
    assert {path.name for path in tmp_path.iterdir()} - {"1.txt", "2.txt"} == {
        Path(path).name for path in said
    }
    assert len({Path(path).read_bytes() for path in said}) == 4 * SAVES


def test_a_name_taken_while_it_was_computed(sa3, monkeypatch) -> None:
    real = cli_generate.generate

    def meanwhile(*args):
        made = real(*args)
        Path("o.wav").write_text("another's")
        Path("l.npy").write_text("another's")
        return made

    monkeypatch.setattr(cli_generate, "generate", meanwhile)
    run = (*GENERATE, "--seconds", 0.5, "--steps", 1, "--latents-out", "l.npy")
    code, out, err = sa3(*run)
    assert (code, out) == (0, ["o_00001.wav", "l_00001.npy"])
    assert "o.wav was made by another program in the meantime" in err
    assert Path("o.wav").read_text() == Path("l.npy").read_text() == "another's"
    assert read_audio(Path("o_00001.wav"))[0].shape == (2, 22050)
    assert len(read_latents(Path("l_00001.npy")).frames) == 1
    assert sa3(*run, "--force")[:2] == (0, ["o.wav", "l.npy"])


def test_a_merged_model_never_lands_in_anothers_folder(sa3, monkeypatch) -> None:
    def meanwhile(place):
        place.path.mkdir()
        return claim_folder(place)

    monkeypatch.setattr(models, "claim_folder", meanwhile)
    code, out, err = sa3("merge", "--model", "tiny-s", "--lora", LORA, "--out", "m")
    assert (code, out) == (0, [os.path.join("m_00001", "model.safetensors")])
    assert "was made by another program in the meantime" in err
    assert not list(Path("m").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_the_command_line_sweeps_what_killed_programs_left(sa3, tmp_path) -> None:
    hold = """
        import sys
        from pathlib import Path
        from sa3_core.files.whole_file import whole_file
        with whole_file(Path(sys.argv[1]) / "a") as whole:
            print("ready", flush=True)
            sys.stdin.readline()
    """
    killed, living = script(hold, tmp_path), script(hold, tmp_path)
    for process in (killed, living):
        assert process.stdout is not None
        process.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    killed.wait(20)
    assert sa3(*GENERATE, "--seconds", 0.5, "--steps", 1)[0] == 0
    assert len(list(tmp_path.glob(".*.part"))) == 1  # the living one's
    living.communicate("go\n", timeout=20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "o.wav"]


@pytest.mark.parametrize(
    "argv",
    [
        (*GENERATE[:-1], f"{LONG}.wav"),
        (*GENERATE, "--latents-out", f"{LONG}.npy"),
        (*GENERATE, "--init-audio", f"{LONG}.wav"),
        (*GENERATE, "--models-dir", LONG),
        ("encode", f"{LONG}.wav", "--model", "tiny-s", "--out", "a.npy"),
        ("decode", f"{LONG}.npy", "--model", "tiny-s", "--out", "a.wav"),
        ("pre-encode", LONG, "--model", "tiny-s", "--out", "a"),
        ("train", "--data", LONG, "--model", "tiny-s", "--out", "a"),
        ("merge", "--model", "tiny-s", "--lora", LORA, "--out", LONG),
    ],
)
@pytest.mark.parametrize("sort", ["long", "nul", "deep"])
def test_paths_that_no_file_can_have(sa3, argv, sort) -> None:
    odd = {"long": LONG, "nul": "a\0b", "deep": "/".join(["d" * 250] * 20)}[sort]
    said = {"long": "names have at most 255", "nul": "NUL character", "deep": "at most 4095"}[sort]
    code, out, err = sa3(*(str(word).replace(LONG, odd) for word in argv))
    assert (code, out) == (2, [])
    assert said in err
    assert "Errno" not in err


@pytest.mark.parametrize("flag", ["--model", "--lora", "--text-encoder", "--autoencoder"])
@pytest.mark.parametrize("odd", [LONG, "a\0b", "/".join(["d" * 250] * 20)])
def test_names_of_models_that_no_file_can_have(sa3, flag, odd) -> None:
    code, _, err = sa3(*GENERATE, "--seconds", 0.5, flag, odd)
    assert code == 1
    assert "NUL" in err or "at most" in err
    assert "Errno" not in err


def test_a_numbered_name_that_gets_too_long(sa3) -> None:
    name = "x" * 251 + ".wav"
    assert name_fault(Path(name)) is None
    code, _, err = sa3(*GENERATE[:-1], name, "--prompt", "a", "b", "--seconds", 0.5)
    assert code == 1
    assert "names have at most 255" in err


class FullDisk:
    """An open file on a disk without room."""

    def __init__(self, file):
        self._file = file

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *stopped):
        self._file.close()


@pytest.fixture
def full_disk(monkeypatch):
    def fill():
        real = whole_file._open_part

        def open_part(folder):
            temporary, opened, lock = real(folder)
            return temporary, FullDisk(opened), lock

        monkeypatch.setattr(whole_file, "_open_part", open_part)

    return fill


def test_a_full_disk_is_said_by_every_command_that_writes(sa3, full_disk, source, tmp_path):
    assert sa3("encode", "source.wav", "--model", "tiny-s", "--out", "a.npy")[0] == 0
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    (sounds / "a.wav").write_bytes((tmp_path / "source.wav").read_bytes())
    (sounds / "a.txt").write_text("a sound")
    encode = ("pre-encode", "sounds", "--model", "tiny-s", "--sample-size", 65536, "--out")
    assert sa3(*encode, "clips")[0] == 0
    left = sorted(path.name for path in tmp_path.iterdir())
    full_disk()
    short = (*GENERATE, "--seconds", 0.5, "--steps", 1)
    train = ("train", "--model", tiny_checkpoint("tiny-s"), "--data", "clips", "--out", "run")
    for argv in (
        short,
        (*short, "--latents-out", "l.safetensors"),
        ("encode", "source.wav", "--model", "tiny-s", "--out", "b.safetensors"),
        ("decode", "a.npy", "--model", "tiny-s", "--out", "b.flac"),
        (*encode, "more"),
        ("merge", "--model", "tiny-s", "--lora", LORA, "--out", "m.safetensors"),
        (*train, "--steps", 1, "--rank", 1, "--include", "layers.0", "--allow-post-trained"),
    ):
        code, out, err = sa3(*argv)
        assert (code, out) == (1, []), argv
        assert "the disk is full. Free some space" in err, argv
        assert "Errno" not in err
    now = {path.name for path in tmp_path.iterdir()} - {"more", "run"}
    assert sorted(now) == left
    assert torch.isfinite(source).all()


def test_a_full_disk_that_no_writer_of_ours_met(sa3, monkeypatch):
    def fails(*args):
        raise OSError(errno.ENOSPC, "No space left on device", "/models/x")

    monkeypatch.setattr(cli_generate, "generate", fails)
    code, _, err = sa3(*GENERATE, "--seconds", 0.5)
    assert code == 1
    assert err == "sa3: error: The disk is full. Free some space, or write elsewhere (/models/x).\n"
