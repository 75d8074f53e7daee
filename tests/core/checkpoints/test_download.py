"""Downloads through the real huggingface_hub against a hub on this machine."""

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import hf_hub_download
from tqdm import tqdm

from sa3_core.checkpoints import download as download_module
from sa3_core.checkpoints.download import download_variant, is_complete
from sa3_core.checkpoints.library import Library
from sa3_core.checkpoints.variants import VARIANTS
from sa3_core.errors import DownloadError
from sa3_core.files.published import MIRROR_REPO
from tests.helpers.fake_hub import REVISION, TOKEN, FakeHub
from tests.helpers.hub_content import (
    CHUNK,
    FULL,
    LARGE,
    REPO,
    T5,
    TOTAL,
    Stop,
    content,
    files_in,
    stop_at,
)

ROOT = Path(__file__).resolve().parents[3]


# --- what arrives ------------------------------------------------------------------------------


def test_a_download_brings_what_the_model_needs_and_nothing_else(
    hub: FakeHub, target: Path
) -> None:
    seen: list[tuple[int, int]] = []
    folder = download_variant("small-music", target, "upstream", lambda *n: seen.append(n))
    assert folder == target / "small-music"
    assert files_in(target) == {f"small-music/{name}": data for name, data in FULL.items()}
    assert not (target / ".staging").exists()
    assert is_complete(folder, VARIANTS["small-music"])
    done = [first for first, _ in seen]
    assert {total for _, total in seen} == {TOTAL}
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, TOTAL)
    assert len(set(done)) >= LARGE // CHUNK


def test_the_revision_is_pinned_and_the_cdn_gets_no_token(
    hub: FakeHub, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.gated.add(REPO)
    download_variant("small-music", target)
    resolved = [seen for seen in hub.seen if "/resolve/" in seen.path]
    fetched = [seen for seen in hub.seen if "/cdn/" in seen.path]
    assert len(resolved) == len(fetched) == len(FULL)
    assert all(f"/resolve/{REVISION}/" in seen.path for seen in resolved)
    assert {seen.token for seen in resolved} == {TOKEN}
    assert {(seen.token, seen.host) for seen in fetched} == {(None, f"localhost:{hub.port}")}


def test_autoencoders_come_without_a_text_encoder(hub: FakeHub, target: Path) -> None:
    download_variant("same-l", target)
    assert set(files_in(target)) == {"same-l/model.safetensors", "same-l/model_config.json"}


def test_the_mirror_holds_every_variant_in_a_folder(hub: FakeHub, target: Path) -> None:
    hub.repos[MIRROR_REPO] = {f"small-music/{name}": data for name, data in FULL.items()}
    hub.repos[MIRROR_REPO]["small-music-base/model.safetensors"] = b"other"
    folder = download_variant("small-music", target, "mirror")
    assert files_in(folder) == FULL
    with pytest.raises(DownloadError, match=r"mirrors holds no .*model_config\.json.* small-music"):
        download_variant("small-music-base", target, "mirror")


def test_library_finds_what_was_downloaded(hub: FakeHub, tiny_s: Path, tmp_path: Path) -> None:
    """A real (tiny) checkpoint, end to end: known, downloaded, found under the same name."""
    hub.repos[REPO] = files_in(tiny_s)
    library = Library.from_models_dir(tmp_path)
    assert "small-music" in library.known_models()
    assert library.models() == []
    folder = download_variant("small-music", library.download_root)
    assert library.models() == ["small-music"]
    assert library.resolve("small-music", "model") == folder
    assert library.text_encoders() == [f"small-music/{T5}"]


def test_what_is_there_is_not_asked_for(hub: FakeHub, target: Path) -> None:
    download_variant("small-music", target)
    hub.seen.clear()
    assert download_variant("small-music", target, "mirror") == target / "small-music"
    assert hub.seen == []


def test_only_missing_files_are_fetched_and_the_users_own_are_kept(
    hub: FakeHub, target: Path
) -> None:
    folder = download_variant("small-music", target)
    (folder / "model_config.json").write_bytes(b"mine")
    (folder / T5 / "tokenizer.json").unlink()
    hub.seen.clear()
    seen: list[tuple[int, int]] = []
    download_variant("small-music", target, "upstream", lambda *n: seen.append(n))
    assert [s.path.rsplit("/", 1)[1] for s in hub.seen if "/cdn/" in s.path] == ["tokenizer.json"]
    assert (folder / "model_config.json").read_bytes() == b"mine"
    assert (folder / T5 / "tokenizer.json").read_bytes() == FULL[f"{T5}/tokenizer.json"]
    assert seen[-1] == (5_000, 5_000)


# --- stopping and going on -----------------------------------------------------------------------


def test_huggingface_hub_2_starts_anew_after_a_stop(hub: FakeHub, tmp_path: Path) -> None:
    """Why hf_hub_download is not used: should this fail, it resumes again and may be used."""
    if int(huggingface_hub.__version__.split(".")[0]) < 2:
        pytest.skip("older versions resume")

    class Cancelled(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            if len(hub.got("model.safetensors")) <= 2 and self.n >= 2 * CHUNK:
                raise Stop
            return super().update(n)

    for _ in range(2):
        with pytest.raises(Stop):
            hf_hub_download(
                REPO,
                "model.safetensors",
                revision=REVISION,
                local_dir=tmp_path,
                tqdm_class=Cancelled,
            )
        assert not list(tmp_path.rglob("*.incomplete"))
    assert [seen.range for seen in hub.got("model.safetensors")] == [None, None]


@pytest.mark.parametrize("limit", [1, CHUNK, 2 * CHUNK, LARGE - 1, LARGE + 10, TOTAL - 1, TOTAL])
def test_a_stopped_download_goes_on_where_it_was(hub: FakeHub, target: Path, limit: int) -> None:
    with pytest.raises(Stop):
        download_variant("small-music", target, "upstream", stop_at(limit))
    assert not (target / "small-music").exists()
    assert Library.from_models_dir(target.parent).models() == []
    kept = sum(map(len, files_in(target / ".staging").values()))
    assert limit <= kept <= limit + CHUNK + 10_000
    hub.seen.clear()
    seen: list[int] = []
    download_variant("small-music", target, "upstream", lambda done, total: seen.append(done))
    assert files_in(target) == {f"small-music/{name}": data for name, data in FULL.items()}
    fetched = sum(
        len(FULL[name]) - int((s.range or "bytes=0-")[6:-1])
        for name in FULL
        for s in hub.got(f"/{REPO}/{name}")
    )
    assert fetched == TOTAL - kept
    assert seen[-1] == TOTAL


def test_a_range_is_asked_for(hub: FakeHub, target: Path) -> None:
    order = list(FULL)
    before = sum(len(FULL[name]) for name in order[: order.index("model.safetensors")])
    with pytest.raises(Stop):
        download_variant("small-music", target, "upstream", stop_at(before + 3 * CHUNK))
    hub.seen.clear()
    download_variant("small-music", target)
    assert [s.range for s in hub.got(f"{REPO}/model.safetensors")] == [f"bytes={3 * CHUNK}-"]


def test_a_server_without_ranges_sends_all_again(hub: FakeHub, target: Path) -> None:
    with pytest.raises(Stop):
        download_variant("small-music", target, "upstream", stop_at(3 * CHUNK))
    hub.ignore_range = True
    assert files_in(download_variant("small-music", target)) == FULL


def test_a_connection_that_breaks_once_is_taken_up_by_the_hub(hub: FakeHub, target: Path) -> None:
    hub.broken["model.safetensors"] = 2 * CHUNK
    seen: list[tuple[int, int]] = []

    def on_bytes(done: int, total: int) -> None:
        seen.append((done, total))
        if len(hub.got(f"{REPO}/model.safetensors")) >= 2:
            hub.broken.clear()

    assert files_in(download_variant("small-music", target, "upstream", on_bytes)) == FULL
    assert len(hub.got(f"{REPO}/model.safetensors")) > 1
    assert seen[-1] == (TOTAL, TOTAL)


def test_a_connection_that_stays_broken_leaves_what_came(hub: FakeHub, target: Path) -> None:
    hub.broken["model.safetensors"] = 0
    with pytest.raises(
        DownloadError, match=r"broke off.*goes on where it stopped.*By hand"
    ) as caught:
        download_variant("small-music", target)
    assert str(target / "small-music") in str(caught.value)
    hub.broken.clear()
    assert files_in(download_variant("small-music", target)) == FULL


def test_a_new_revision_with_other_weights_does_not_go_on_with_the_old(
    hub: FakeHub, target: Path
) -> None:
    with pytest.raises(Stop):
        download_variant("small-music", target, "upstream", stop_at(3 * CHUNK))
    newer = {**FULL, "model.safetensors": content(9, LARGE)}
    hub.repos[REPO] = newer
    assert files_in(download_variant("small-music", target)) == newer
    assert not (target / ".staging").exists()


def test_a_stop_while_moving_never_leaves_weights_alone(
    hub: FakeHub, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace
    moved: list[str] = []

    def replace(source: Path, goal: Path) -> None:
        if "small-music" in Path(goal).parts and ".staging" not in Path(goal).parts:
            if len(moved) == len(FULL) - 1:
                raise Stop
            moved.append(Path(goal).name)
        real(source, goal)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(Stop):
        download_variant("small-music", target)
    assert set(files_in(target / "small-music")) == set(FULL) - {"model.safetensors"}
    assert Library.from_models_dir(target.parent).models() == []
    monkeypatch.setattr(os, "replace", real)
    hub.seen.clear()
    assert files_in(download_variant("small-music", target)) == FULL
    assert not [s for s in hub.seen if "/cdn/" in s.path]


# --- damage, space, permission -------------------------------------------------------------------


@pytest.mark.parametrize("path", ["model.safetensors", "model_config.json", f"{T5}/tokenizer.json"])
def test_a_damaged_file_is_deleted_and_comes_again(hub: FakeHub, target: Path, path: str) -> None:
    hub.corrupt.add(path)
    with pytest.raises(DownloadError, match=rf"{path} arrived damaged.*Start the download again"):
        download_variant("small-music", target)
    assert not (target / "small-music").exists()
    assert not [
        name for name in files_in(target) if name.startswith(f".staging/small-music/{path}")
    ]
    hub.corrupt.clear()
    assert files_in(download_variant("small-music", target)) == FULL


def test_damaged_leftovers_are_noticed(hub: FakeHub, target: Path) -> None:
    with pytest.raises(Stop):
        download_variant("small-music", target, "upstream", stop_at(2 * CHUNK))
    part = next((target / ".staging").rglob("model.safetensors.*.part"))
    part.write_bytes(bytes(part.stat().st_size))
    with pytest.raises(DownloadError, match="arrived damaged"):
        download_variant("small-music", target)
    part.write_bytes(bytes(LARGE + 1))  # longer than the file can be
    assert files_in(download_variant("small-music", target)) == FULL


def test_space_is_checked_before_the_first_byte(
    hub: FakeHub, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    free = int(TOTAL * 1.05) - 1000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - free, free))
    with pytest.raises(
        DownloadError, match=r"small-music needs 0\.00 GB more in .*Free some"
    ) as got:
        download_variant("small-music", target)
    assert str(target) in str(got.value)
    assert not [s for s in hub.seen if "/cdn/" in s.path]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, free + 2000))
    with pytest.raises(Stop):
        download_variant("small-music", target, "upstream", stop_at(3 * CHUNK))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, free - 2 * CHUNK))
    assert files_in(download_variant("small-music", target)) == FULL  # the rest fits


def test_disk_full_on_the_way(hub: FakeHub, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = download_module._ReportingFile.write

    def write(self: download_module._ReportingFile, data: bytes) -> int:
        if self.tell() >= 2 * CHUNK:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(download_module._ReportingFile, "write", write)
    with pytest.raises(DownloadError, match=r"disk of .* is full. Free some space.*goes on"):
        download_variant("small-music", target)
    monkeypatch.setattr(download_module._ReportingFile, "write", real)
    hub.seen.clear()
    assert files_in(download_variant("small-music", target)) == FULL
    assert hub.got(f"{REPO}/model.safetensors")[0].range == f"bytes={2 * CHUNK}-"


def test_a_folder_that_cannot_be_written(hub: FakeHub, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(b"a file where the folder should be")
    with pytest.raises(DownloadError, match="broke off"):
        download_variant("small-music", target)
