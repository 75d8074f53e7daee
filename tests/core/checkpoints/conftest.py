"""A model hub on this machine."""

import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.helpers.fake_hub import FakeHub, running_hub
from tests.helpers.hub_content import CHUNK, FULL, REPO, UNWANTED


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub with small-music and same-l in it; no token, no bar, small chunks."""
    with running_hub() as fake:
        monkeypatch.setattr(constants, "ENDPOINT", fake.url)
        template = fake.url + "/{repo_id}/resolve/{revision}/{filename}"
        for holder in (constants, huggingface_hub.file_download):  # below 1.0 both have one
            monkeypatch.setattr(holder, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the hub's own retries
        fake.repos[REPO] = {**FULL, **UNWANTED}
        fake.repos["stabilityai/SAME-L"] = {
            name: FULL[name] for name in ("model_config.json", "model.safetensors")
        }
        yield fake


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models été" / "stable_audio_3"
