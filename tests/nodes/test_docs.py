"""README and docs name every node, input, command and option, and links lead to what is there."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from sa3_core.cli.arguments import build_parser
from tests.helpers.support import ROOT, assert_none
from tests.tools.example_inputs import TITLES, workflow_names

PAGES = [ROOT / "README.md", ROOT / "DEVELOPMENT.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = {path: path.read_text("utf-8") for path in PAGES}
README = TEXT[ROOT / "README.md"]
NODES = TEXT[ROOT / "docs" / "nodes.md"]
COMMANDS = TEXT[ROOT / "docs" / "command-line.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_PATH = re.compile(r"`((?:sa3_core|nodes|tests|js|docs|example_workflows)/[\w./-]*)`")
MAX_IMAGE_BYTES = 400_000


def _row(node_id: str) -> str:
    """The line of the node reference that is about a node."""
    return next((line for line in NODES.splitlines() if f"`{node_id}`" in line), "")


def test_the_node_reference_is_complete(comfy):
    problems = []
    for name, node in comfy.client.object_info().items():
        if not name.startswith("SA3"):
            continue
        row = _row(name)
        if f"[**{node['display_name']}**](../js/docs/{name}.md)" not in row:
            problems.append(f"docs/nodes.md has no row for {node['display_name']} (`{name}`)")
            continue
        for kind, form in (("required", "`{}`"), ("optional", "*`{}`*")):
            keys = node["input"].get(kind, {})
            problems += [f"{name}: {kind} `{key}`" for key in keys if form.format(key) not in row]
    assert_none(problems)


def test_the_command_line_reference_is_complete():
    (commands,) = [
        action.choices
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    problems = []
    for name, parser in commands.items():
        row = next((line for line in COMMANDS.splitlines() if line.startswith(f"| `{name}")), "")
        options = {o for action in parser._actions for o in action.option_strings}
        wanted = {option for option in options if option.startswith("--")} - {"--help"}
        problems += [f"{name} {option}" for option in sorted(wanted) if f"`{option}`" not in row]
        named = set(re.findall(r"`(--[\w-]+)`", row))
        problems += [f"{name} has no {option}" for option in sorted(named - wanted)]
    assert_none(problems)


def _anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path):
    problems = []
    for target in LINK.findall(TEXT[document]):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        if not path.is_file() or (anchor and anchor not in _anchors(path.read_text("utf-8"))):
            problems.append(target)
    assert_none(problems)


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_paths_in_the_text_exist(document: Path):
    """A page that names a file of the repository names one that is there."""
    names = CODE_PATH.findall(TEXT[document])
    assert_none([name for name in names if not (ROOT / name).exists()])


def test_development_names_many_files():
    """The check above would pass on a page without paths."""
    assert len(CODE_PATH.findall(TEXT[ROOT / "DEVELOPMENT.md"])) > 40


def test_a_musician_finds_the_main_things_within_two_screens():
    """Install, the first graph and what to build stand in the first 70 lines."""
    first = README.splitlines()[:70]
    for title in ("## Install", "## First graph", "## What to build"):
        assert title in first
    assert first.index("## What to build") < 60
    assert len(README.splitlines()) < 200


@pytest.mark.parametrize("folder", ["js/docs/images", "example_workflows"])
def test_pictures_are_small_and_used(folder):
    pictures: list[Any] = [
        path for path in (ROOT / folder).iterdir() if path.suffix in (".png", ".jpg", ".webp")
    ]
    assert pictures
    shown = "\n".join(TEXT.values())
    for path in pictures:
        assert path.stat().st_size < MAX_IMAGE_BYTES, path
        assert f"{folder}/{path.name}" in shown, f"no page shows {path.name}"


def test_every_example_workflow_is_shown():
    """By the name that the page shows."""
    assert sorted(TITLES) == workflow_names()
    assert_none([title for title in TITLES.values() if f"**{title}**" not in README])
