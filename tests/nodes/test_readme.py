"""The README names every node, input, command and option, and links to what is there."""

from __future__ import annotations

import argparse
import re
from typing import Any

import pytest

from sa3_core.cli.arguments import build_parser
from tests.helpers.support import ROOT, assert_none

README = (ROOT / "README.md").read_text("utf-8")
LINK = re.compile(r"\]\(([^)\s]+)\)")
MAX_IMAGE_BYTES = 400_000


def _row(node_id: str) -> str:
    """The line of the node reference that is about a node."""
    return next((line for line in README.splitlines() if f"`{node_id}`" in line), "")


def test_the_node_reference_is_complete(comfy):
    problems = []
    for name, node in comfy.client.object_info().items():
        if not name.startswith("SA3"):
            continue
        row = _row(name)
        if f"[**{node['display_name']}**](js/docs/{name}.md)" not in row:
            problems.append(f"README.md has no row for {node['display_name']} (`{name}`)")
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
        row = next((line for line in README.splitlines() if line.startswith(f"| `{name}")), "")
        options = {o for action in parser._actions for o in action.option_strings}
        wanted = {option for option in options if option.startswith("--")} - {"--help"}
        problems += [f"{name} {option}" for option in sorted(wanted) if f"`{option}`" not in row]
        named = set(re.findall(r"`(--[\w-]+)`", row))
        problems += [f"{name} has no {option}" for option in sorted(named - wanted)]
    assert_none(problems)


def test_links_lead_somewhere():
    targets = [target for target in LINK.findall(README) if not target.startswith("http")]
    titles = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
    files = [target for target in targets if not target.startswith("#")]
    assert_none([t for t in targets if t.startswith("#") and t not in anchors])
    assert_none([target for target in files if not (ROOT / target).is_file()])


@pytest.mark.parametrize("folder", ["js/docs/images", "example_workflows"])
def test_pictures_are_small_and_used(folder):
    pictures: list[Any] = [
        path for path in (ROOT / folder).iterdir() if path.suffix in (".png", ".jpg", ".webp")
    ]
    assert pictures
    for path in pictures:
        assert path.stat().st_size < MAX_IMAGE_BYTES, path
        assert f"{folder}/{path.name}" in README, f"README.md does not show {path.name}"


def test_every_example_workflow_is_shown():
    names = sorted(path.stem for path in (ROOT / "example_workflows" / "api").glob("*.json"))
    assert_none([name for name in names if f"**{name}**" not in README])
