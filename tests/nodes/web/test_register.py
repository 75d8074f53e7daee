"""The pack's routes: all of them on a server that runs, nothing without one."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
from aiohttp import web


@pytest.fixture
def register(pack):
    return importlib.import_module("sa3_pack.nodes.bridge.web.register")


def test_every_route_is_added_to_the_running_server(register, monkeypatch):
    routes = web.RouteTableDef()
    server = SimpleNamespace(instance=SimpleNamespace(routes=routes))
    monkeypatch.setattr(register, "PromptServer", server)
    register.register_routes()
    assert {(route.method, route.path) for route in routes} == {
        ("GET", "/sa3/models"),
        ("GET", "/sa3/lora"),
        ("GET", "/sa3/peaks"),
        ("GET", "/sa3/spectrogram"),
        ("POST", "/sa3/tokens"),
    }


def test_without_a_server_nothing_is_added(register, monkeypatch):
    for missing in (None, SimpleNamespace()):
        monkeypatch.setattr(register, "PromptServer", missing)
        register.register_routes()
