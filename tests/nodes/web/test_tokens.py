"""The route that counts tokens: whatever is sent gets an answer that says what is wrong."""

from __future__ import annotations

import importlib
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.helpers.loops import finish


def ask(pack, body: bytes, content_type: str = "application/json") -> tuple[int, dict]:
    """POST a body to the route in an application of its own."""
    tokens = importlib.import_module(f"{pack.__name__}.nodes.bridge.web.tokens")

    async def post() -> tuple[int, dict]:
        app = web.Application()
        app.router.add_post("/", tokens.answer_tokens)
        async with TestClient(TestServer(app)) as client:
            answer = await client.post("/", data=body, headers={"Content-Type": content_type})
            return answer.status, await answer.json()

    return finish(post())


def text_of(value: str) -> bytes:
    return json.dumps({"text": value}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"text",
        b"[]",
        b"{}",
        b"null",
        b'{"text": 5}',
        b'{"text": null}',
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"text": ' * 50_000,
        b'{"text": ' + b"9" * 5000 + b"}",
        b'{"text": "\\ud800"}',
        text_of("half \udc80"),
        text_of("x" * 100_001),
    ],
    ids=range(15),
)
def test_what_cannot_be_counted_is_refused_with_a_sentence(pack, body):
    status, answer = ask(pack, body)
    assert status == 400
    assert len(answer["error"]) > 20


@pytest.mark.parametrize("kind", ["application/json; charset=none", "text/plain; charset=utf-7"])
def test_json_is_utf8_whatever_charset_is_stated(pack, kind):
    status, answer = ask(pack, '{"text": "Stück № 1"}'.encode(), kind)
    assert (status, len(answer["counts"])) == (200, 1)


def test_whole_characters_beyond_ascii_are_counted(pack):
    status, answer = ask(pack, text_of("🎵 Stück"))
    assert status == 200
    assert answer["counts"][0] > 0
