"""The region editor's routes on a real server."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from tests.helpers.region_editor import write_tone


@pytest.fixture(scope="module")
def tone(comfy):
    write_tone(comfy.base / "input" / "sa3_route.flac", 1.0)
    return "filename=sa3_route.flac&subfolder=&type=input"


def test_both_routes_answer(comfy, tone):
    peaks = comfy.client.get(f"/api/sa3/peaks?{tone}")
    assert peaks["seconds"] == pytest.approx(1.0)
    assert [level["bin"] for level in peaks["levels"]] == [128, 1024, 8192]
    assert comfy.client.get(f"/sa3/spectrogram?{tone}")["rows"] == 128


def test_an_unchanged_file_is_not_sent_again(comfy, tone):
    url = f"{comfy.url}/sa3/peaks?{tone}"
    with urllib.request.urlopen(url) as answer:
        tag = answer.headers["ETag"]
    request = urllib.request.Request(url, headers={"If-None-Match": tag})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 304


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("filename=none.flac", 404),
        ("filename=..%2F..%2Fetc%2Fpasswd", 403),
        ("filename=%2Fetc%2Fpasswd&type=output", 403),
        ("filename=passwd&subfolder=..%2F..%2F..%2Fetc", 403),
        ("filename=sa3_route.flac&type=models", 400),
        ("", 400),
    ],
)
def test_other_files_are_refused(comfy, tone, query, status):
    for route in ("peaks", "spectrogram"):
        assert comfy.client.status_of(f"/sa3/{route}?{query}") == status


def test_what_is_no_sound_is_said_so(comfy):
    (comfy.base / "input" / "notes.txt").write_text("no sound", encoding="utf-8")
    assert comfy.client.status_of("/sa3/peaks?filename=notes.txt") == 422
