"""Files that appear whole, under names that no two processes share."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sa3_core.files import whole_file as module
from sa3_core.files.whole_file import (
    FreeName,
    claim_folder,
    sweep,
    whole_file,
    whole_folder,
    write_failure,
)
from tests.helpers.support import ROOT

SAVES = 200
ORPHAN = f".{'0' * 32}.part"


def put(place: Path | FreeName, text: str) -> Path:
    with whole_file(place) as whole:
        whole.file.write(text.encode())
    return whole.path


def script(text: str, *args: object) -> subprocess.Popen[str]:
    """A process of its own that runs a script in the repository."""
    line = [sys.executable, "-c", textwrap.dedent(text), *map(str, args)]
    return subprocess.Popen(
        line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def together(text: str, *args: object) -> None:
    """Run a script in two processes, whose saving starts at the same moment."""
    pair = [script(text, *args, number) for number in (1, 2)]
    for process in pair:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in pair:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(120) for process in pair] == [0, 0]


def test_numbers_go_up_and_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a_00002.txt").write_text("older")
    paths = [put(FreeName(tmp_path, "a", ".txt"), str(number)) for number in range(3)]
    assert [path.name for path in paths] == ["a_00001.txt", "a_00003.txt", "a_00004.txt"]
    assert [path.read_text() for path in paths] == ["0", "1", "2"]
    assert (tmp_path / "a_00002.txt").read_text() == "older"
    assert len(list(tmp_path.iterdir())) == 4


def test_a_name_taken_meanwhile_is_left_alone(tmp_path: Path, monkeypatch) -> None:
    """Even where it looked free a moment before."""
    monkeypatch.setattr(Path, "exists", lambda self: self.suffix == ".part")
    (tmp_path / "a_00001.txt").write_text("older")
    assert put(FreeName(tmp_path, "a", ".txt"), "new").name == "a_00002.txt"
    assert (tmp_path / "a_00001.txt").read_text() == "older"


def test_file_systems_without_links(tmp_path: Path, monkeypatch) -> None:
    def no_links(source: object, target: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(module.os, "link", no_links)
    (tmp_path / "a_00001.txt").write_text("older")
    assert put(FreeName(tmp_path, "a", ".txt"), "new").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_00001.txt", "a_00002.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="stands in for Windows")
def test_windows_renames_closed_files_only_and_never_over_another(tmp_path, monkeypatch) -> None:
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        held = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
        assert str(source) not in held
        if target.is_file():
            raise FileExistsError(errno.EEXIST, "exists")
        real(source, target)

    monkeypatch.setattr(module, "fcntl", None)
    monkeypatch.setattr(module.os, "rename", rename)
    (tmp_path / "a_00001.txt").write_text("older")
    assert put(FreeName(tmp_path, "a", ".txt"), "new").name == "a_00002.txt"
    young, old = tmp_path / ORPHAN, tmp_path / ORPHAN.replace("0", "1")
    young.touch()
    old.touch()
    os.utime(old, (1, 1))
    sweep(tmp_path)
    assert young.exists()  # its writer may be about to name it
    assert not old.exists()


def test_folders_are_claimed(tmp_path: Path) -> None:
    (tmp_path / "m_00001").mkdir()
    assert claim_folder(FreeName(tmp_path, "m")) == tmp_path / "m_00002"
    assert (tmp_path / "m_00002").is_dir()


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def stop_midway(place: Path | FreeName) -> None:
        with whole_file(place) as whole:
            whole.file.write(b"half")
            raise Stop

    for place in (tmp_path / "a", FreeName(tmp_path, "a")):
        with pytest.raises(Stop):
            stop_midway(place)
    assert not list(tmp_path.iterdir())


def test_a_failure_names_the_file_and_the_cause(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    text = write_failure(FreeName(tmp_path, "a", ".wav"), full)
    assert text.startswith("a_00001.wav was not saved: the disk is full. Free some space")


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_what_a_killed_process_left_is_swept_and_what_is_being_written_is_not(tmp_path) -> None:
    hold = """
        import sys
        from pathlib import Path
        from sa3_core.files.whole_file import whole_file
        with whole_file(Path(sys.argv[1]) / "a") as whole:
            whole.file.write(b"half")
            whole.file.flush()
            print("ready", flush=True)
            sys.stdin.readline()
    """
    killed, living = script(hold, tmp_path), script(hold, tmp_path)
    for process in (killed, living):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    other = tmp_path / ".download.part"
    other.touch()
    assert len(list(tmp_path.glob("*.part"))) + len(list(tmp_path.glob(".*.part"))) >= 3
    killed.send_signal(signal.SIGKILL)
    killed.wait(20)
    with whole_file(tmp_path / "mine") as whole:
        sweep(tmp_path)  # one's own too
        assert len(list(tmp_path.glob(".*.part"))) == 3  # living, mine, other
        whole.file.write(b"1")
    living.communicate("go\n", timeout=20)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".download.part", "a", "mine"]


RACE = """
    import sys
    from pathlib import Path
    import torch
    from sa3_core.adapters.merge import merge_checkpoint
    from sa3_core.audio.file import write_audio
    from sa3_core.audio.formats import FORMATS
    from sa3_core.codec.latent_file import Latents, write_latents
    from sa3_core.files.whole_file import FreeName, claim_folder, whole_file

    kind, folder, saves, source, who = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]
    torch.set_num_threads(1)
    place = FreeName(folder, "x", {"audio": ".wav", "latents": ".npy", "folders": ""}.get(
        kind, ".safetensors"))
    frames = torch.full((1, 256, 1), float(who))

    def save(number):
        value = torch.full((1, 3), (int(who) * 1000 + number) / 8192)
        if kind == "audio":
            return write_audio(place, value, 44100, FORMATS["wav-16"]).path
        if kind == "latents":
            return write_latents(place, Latents(frames + number * 10, (0.05,)))
        if kind == "folders":
            return claim_folder(place)
        return merge_checkpoint(Path(source), [], place)

    print("ready", flush=True)
    sys.stdin.readline()
    paths = [save(number) for number in range(int(saves))]
    assert len(set(paths)) == int(saves)
"""


@pytest.mark.parametrize(
    ("kind", "saves"), [("audio", SAVES), ("latents", SAVES), ("folders", SAVES), ("model", 20)]
)
def test_two_processes_lose_no_file(tmp_path: Path, tiny_s: Path, kind: str, saves: int) -> None:
    together(RACE, kind, tmp_path, saves, tiny_s)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2 * saves
    assert not any(name.endswith(".part") for name in names)
    if kind in ("audio", "latents"):
        assert len({(tmp_path / name).read_bytes() for name in names}) == 2 * saves


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "models" / "new"
    with whole_folder(place) as folder:
        (folder / "file").write_text("content")
        assert not place.exists()
    assert (place / "file").read_text() == "content"
    assert [path.name for path in place.parent.iterdir()] == ["new"]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with whole_folder(tmp_path / "new") as folder:
            (folder / "file").write_text("half")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_faster_process_stays(tmp_path: Path) -> None:
    place = tmp_path / "new"
    with whole_folder(place) as folder:
        (folder / "file").write_text("ours")
        place.mkdir()
        (place / "file").write_text("theirs")
    assert (place / "file").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
