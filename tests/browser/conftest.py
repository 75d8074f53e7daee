"""Chromium on the real frontend of the session's server."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.helpers.chromium import find_browser, launch_options
from tests.helpers.frontend import Frontend
from tests.helpers.harness import ComfyServer

NO_BROWSER = "no Chrome, Chromium or Edge; run `python dev.py test` or set SA3_BROWSER"
VIEWPORT = {"width": 1400, "height": 900}
left_out = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a browser: skip its tests, or let them fail where nobody would read of the skip."""
    config.stash[left_out] = []
    if find_browser() or os.environ.get("CI", "").lower() == "true":
        return
    for item in items:
        if "page" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=NO_BROWSER))
            config.stash[left_out].append(item.nodeid)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    names = config.stash.get(left_out, [])
    if names:
        terminalreporter.section("browser tests that could not run")
        terminalreporter.line(f"{NO_BROWSER}:")
        for name in names:
            terminalreporter.line(f"  {name}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The running browser."""
    found = find_browser()
    if found is None:
        pytest.fail(NO_BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_options(found))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def frontend(browser: Browser, comfy: ComfyServer) -> Frontend:
    """The page that all tests share: opening it costs four seconds. Tests take `ui`."""
    context = browser.new_context(viewport=VIEWPORT, reduced_motion="reduce")
    frontend = Frontend(context.new_page(), comfy)
    frontend.open()
    return frontend


@pytest.fixture
def page(frontend: Frontend) -> Page:
    """Playwright's page with the frontend open: empty graph, litegraph renderer."""
    frontend.reset()
    return frontend.page


@pytest.fixture
def ui(page: Page, frontend: Frontend) -> Iterator[Frontend]:
    """The frontend and its helpers; afterwards checks that the page logged no error."""
    yield frontend
    frontend.assert_clean()
