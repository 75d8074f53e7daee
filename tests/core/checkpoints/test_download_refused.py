"""Downloads that the hub, the network or the name refuses."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from sa3_core.checkpoints.download import download_variant
from sa3_core.errors import DownloadError, UnknownNameError
from sa3_core.files.published import MIRROR_REPO, SOURCES
from tests.helpers.fake_hub import TOKEN, FakeHub, running_hub
from tests.helpers.hub_content import FULL, REPO, T5, files_in

ROOT = Path(__file__).resolve().parents[3]


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "hf_of_someone_else"])
def test_gated_repositories_name_the_licence(
    hub: FakeHub, target: Path, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    hub.gated.add(REPO)
    with pytest.raises(DownloadError, match=rf"licence at https://huggingface\.co/{REPO} ") as got:
        download_variant("small-music", target)
    assert "HF_TOKEN" in str(got.value)
    assert "hf auth login" in str(got.value)
    assert "hf_of" not in str(got.value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert files_in(download_variant("small-music", target)) == FULL


@pytest.mark.parametrize("token", [None, TOKEN])
def test_repositories_that_are_not_there(
    hub: FakeHub, target: Path, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DownloadError, match="SAME-S was not found") as got:
        download_variant("same-s", target)
    message = str(got.value)
    assert "https://huggingface.co/stabilityai/SAME-S/tree/main and" in message
    assert str(target / "same-s") in message
    assert T5 not in message
    with pytest.raises(DownloadError, match=rf"{MIRROR_REPO}/tree/main/medium and") as got:
        download_variant("medium", target, "mirror")
    assert f"model_config.json and the folder {T5} from" in str(got.value)


def test_an_incomplete_repository(hub: FakeHub, target: Path) -> None:
    del hub.repos[REPO][f"{T5}/model.safetensors"]
    with pytest.raises(DownloadError, match=rf"holds no {T5}/model\.safetensors for small-music"):
        download_variant("small-music", target)


@pytest.mark.parametrize(("status", "advice"), [(403, "Check HF_TOKEN"), (500, "Try again later")])
def test_other_refusals(hub: FakeHub, target: Path, status: int, advice: str) -> None:
    hub.status[REPO] = status
    with pytest.raises(DownloadError, match=rf"status {status}.*{advice}.*By hand"):
        download_variant("small-music", target)


def test_offline_mode(hub: FakeHub, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set") as got:
        download_variant("small-music", target)
    assert f"https://huggingface.co/{REPO}/tree/main" in str(got.value)
    assert str(target / "small-music") in str(got.value)
    assert hub.seen == []


def test_no_network(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_hub() as closed:
        pass
    monkeypatch.setattr(constants, "ENDPOINT", closed.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(DownloadError, match=r"broke off.*Check the connection") as got:
        download_variant("small-music", target)
    assert f"https://huggingface.co/{REPO}/tree/main" in str(got.value)
    assert str(target / "small-music") in str(got.value)


def test_unknown_names(hub: FakeHub, target: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'small-music'"):
        download_variant("small-musik", target)
    with pytest.raises(UnknownNameError, match="upstream, mirror"):
        download_variant("medium", target, "torrent")  # type: ignore[arg-type]
    assert SOURCES == ("upstream", "mirror")
    assert hub.seen == []
    assert not target.exists()


def test_the_environment_alone_selects_endpoint_and_token(hub: FakeHub, target: Path) -> None:
    """As users of a mirror do it: HF_ENDPOINT and HF_TOKEN, nothing in the code."""
    hub.gated.add(REPO)
    code = (
        "import sys; from pathlib import Path;"
        " from sa3_core.checkpoints.download import download_variant;"
        "download_variant('small-music', Path(sys.argv[1]))"
    )
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
    env.pop("HF_HUB_OFFLINE", None)
    run = subprocess.run(
        [sys.executable, "-c", code, str(target)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert files_in(target / "small-music") == FULL
    assert "%" not in run.stderr  # no progress bar but the caller's
