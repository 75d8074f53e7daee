"""The files that follow from the nodes' schemas are up to date, and how they are made."""

from __future__ import annotations

import json
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.helpers.in_process import node_classes
from tests.helpers.support import ROOT
from tests.tools import node_texts as made


def entry(key: str, **facts: Any) -> SimpleNamespace:
    usual = {"tooltip": "What it does.", "optional": False, "io_type": "AUDIO"}
    return SimpleNamespace(id=key, **{**usual, **facts})


def schema(*inputs: SimpleNamespace, **facts: Any) -> SimpleNamespace:
    usual = {
        **{"node_id": "SA3Thing", "display_name": "Thing", "inputs": list(inputs)},
        **{"description": "Makes a thing. And more.", "outputs": []},
    }
    return SimpleNamespace(**{**usual, **facts})


def test_the_files_say_what_the_schemas_say(pack: ModuleType):
    schemas = [node.define_schema() for node in node_classes(pack)]
    assert len(schemas) > 20
    names = [path.relative_to(ROOT).as_posix() for path in made.not_up_to_date(schemas)]
    assert not names, f"run `python dev.py texts`: {', '.join(names)}"


def test_every_node_has_its_row_in_a_reference(pack: ModuleType):
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    rows = {match[2] for match in made.ROW.finditer(text)}
    assert rows == {node.define_schema().node_id for node in node_classes(pack)}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (entry("audio", io_type="AUDIO"), "- `audio` (required): What it does."),
        (entry("vae", io_type="VAE", optional=True), "- `vae` (optional): What it does."),
        (
            entry(
                "cfg",
                io_type="FLOAT",
                default=1.5,
                min=0.0,
                max=100.0,
                optional=True,
                advanced=True,
            ),
            "- `cfg` (default: 1.5, 0 to 100, advanced): What it does.",
        ),
        (
            entry("seed", io_type="INT", default=0, min=0, max=2**64 - 1),
            "- `seed` (default: 0): What it does.",
        ),
        (
            entry("exact", io_type="BOOLEAN", default=True, optional=True),
            "- `exact` (default: on): What it does.",
        ),
        (
            entry("text", io_type="STRING", default="", optional=True),
            "- `text` (default: empty): What it does.",
        ),
    ],
)
def test_an_input_says_what_it_needs(given, line):
    assert made.input_line(given) == line


def test_a_help_page_keeps_what_was_written_by_hand():
    audio = schema(entry("audio", io_type="AUDIO"))
    page = made.help_page(audio, "")
    assert page == (
        "# Thing\n\nMakes a thing. And more.\n\n## Inputs\n\n- `audio` (required): What it does.\n"
    )
    by_hand = f"{page}\n## Notes\n\n- `audio` may be mono.\n"
    assert made.help_page(audio, by_hand) == by_hand
    output = SimpleNamespace(display_name=None, io_type="AUDIO")
    more = schema(entry("a"), entry("b", optional=True), outputs=[output])
    changed = made.help_page(more, by_hand)
    assert "- `b` (optional): What it does.\n\n**Outputs**: AUDIO.\n\n## Notes" in changed
    assert changed.endswith("- `audio` may be mono.\n")
    assert made.help_page(audio, changed) == by_hand


def test_rows_of_the_reference_are_written_anew_where_they_stand():
    thing = schema(entry("a"), entry("b", optional=True))
    old = "| [**Old**](../js/docs/SA3Thing.md)<br>`SA3Thing`<br>Old. | `x` | LATENT |"
    page = f"before\n{old}\nafter | [**Other**](js/docs/SA3Other.md) |\n"
    assert made.with_rows(page, {"SA3Thing": thing}) == page.replace(
        old,
        "| [**Thing**](../js/docs/SA3Thing.md)<br>`SA3Thing`<br>Makes a thing. "
        "| `a`, *`b`* | \u2013 |",
    )


class TestTranslations:
    OLD = made.english([schema(entry("a"), entry("b"))])
    KEY = "SA3Thing.inputs.a.tooltip"

    def changed(self) -> made.Tree:
        return made.english([schema(entry("a", tooltip="Changed."), entry("b"))])

    def test_texts_without_a_translation_are_listed(self):
        left = made.left_to_translate({}, self.OLD, {}, {})
        assert left == {"missing": sorted(made.flat(self.OLD)), "outdated": {}}

    def test_a_changed_text_makes_its_translation_outdated_until_that_changes(self):
        german = json.loads(json.dumps(self.OLD))
        german["SA3Thing"]["inputs"]["a"]["tooltip"] = "Was es tut."
        left = made.left_to_translate(self.OLD, self.changed(), german, {})
        assert list(left["outdated"]) == [self.KEY]
        again = made.left_to_translate(self.changed(), self.changed(), german, left["outdated"])
        assert again == left
        german["SA3Thing"]["inputs"]["a"]["tooltip"] = "Geändert."
        done = made.left_to_translate(self.changed(), self.changed(), german, left["outdated"])
        assert done == {"missing": [], "outdated": {}}

    def test_texts_of_inputs_that_went_go_too(self):
        only_b = made.english([schema(entry("b"))])
        assert made.pruned(self.OLD, only_b) == only_b
        assert made.pruned({}, only_b) == {}

    def test_the_report_names_language_and_text(self):
        todo = {
            "de": {"missing": ["X.a"], "outdated": {"X.b": "0"}},
            "fr": made.left_to_translate({}, {}, {}, {}),
        }
        assert made.report(todo) == "de lacks X.a\nde is out of date: X.b"
        assert made.report({}) == "All texts are translated."
