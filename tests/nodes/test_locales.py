"""Every node and input has its texts in every language and its page of help."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.helpers.support import ROOT, assert_none

LOCALES = ROOT / "locales"
HELP = ROOT / "js" / "docs"
TODO = ROOT / "tests" / "tools" / "translations_todo.json"
LANGUAGES = ("en", "zh", "ja", "ko", "de", "fr", "es", "ru")
# vue-i18n gives these a meaning of its own.
SPECIAL = "{}@|"
PLACEHOLDER = re.compile(r"\{\w+\}")


@pytest.fixture(scope="session")
def ours(comfy: Any) -> dict[str, Any]:
    """/object_info of our nodes."""
    info = comfy.client.object_info()
    return {name: node for name, node in info.items() if name.startswith("SA3")}


@pytest.fixture(scope="session")
def served(comfy: Any) -> dict[str, Any]:
    """What the frontend gets."""
    return comfy.client.get("/i18n")


def _inputs(node: dict[str, Any]) -> dict[str, Any]:
    groups = (node["input"].get(kind, {}) for kind in ("required", "optional"))
    return {name: entry for group in groups for name, entry in group.items()}


def _texts(ours: dict[str, Any]) -> dict[str, str]:
    """Dotted key in nodeDefs.json -> the schema's text, "" where English has no text of its own."""
    texts = {}
    for name, node in ours.items():
        texts[f"{name}.display_name"] = node["display_name"]
        texts[f"{name}.description"] = node["description"]
        for key, entry in _inputs(node).items():
            texts[f"{name}.inputs.{key}.name"] = key
            texts[f"{name}.inputs.{key}.tooltip"] = entry[1]["tooltip"]
    return texts


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_there_or_waits_for_its_translation(ours, served, language):
    """What a language lacks the page shows in English; `dev.py texts` lists it."""
    todo = json.loads(TODO.read_text("utf-8"))
    waiting = set(todo.get(language, {}).get("missing", []))
    wanted, found = _texts(ours), _flat(served[language]["nodeDefs"])
    path = f"locales/{language}/nodeDefs.json"
    missing = [key for key in wanted if not found.get(key)]
    assert_none([f"{path} lacks {key}: {wanted[key]!r}" for key in missing if key not in waiting])
    assert_none([f"{path} has {key}" for key in waiting if found.get(key)])
    assert not (language == "en" and waiting)


def test_no_text_waits_for_its_translation():
    """`dev.py texts` lists what is missing, or older than its English."""
    todo = json.loads(TODO.read_text("utf-8"))
    assert sorted(todo) == sorted(set(LANGUAGES) - {"en"})
    assert {language: left for language, left in todo.items() if any(left.values())} == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_left_over(ours, language):
    wanted = _texts(ours)
    path = LOCALES / language / "nodeDefs.json"
    found = _flat(json.loads(path.read_text("utf-8")))
    assert_none(
        [f"{language}: {key} belongs to no node or input" for key in found if key not in wanted]
    )


def test_english_says_what_the_schemas_say(ours, served):
    wanted, found = _texts(ours), _flat(served["en"]["nodeDefs"])
    changed = [
        f"{key}\n  schema: {text!r}\n  locale: {found.get(key)!r}"
        for key, text in wanted.items()
        if found.get(key) != text
    ]
    assert_none(changed)


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "en"])
def test_texts_are_translated(ours, language):
    """Tooltips are sentences, so one that equals the English was forgotten."""
    english = _texts(ours)
    found = _flat(json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8")))
    same = [f"{key}: {text!r}" for key, text in found.items() if text == english.get(key)]
    assert_none([entry for entry in same if ".tooltip" in entry or ".description" in entry])


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_hold_no_message_syntax(language):
    found = _flat(json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8")))
    assert_none([f"{key}: {text!r}" for key, text in found.items() if set(text) & set(SPECIAL)])


def test_the_interface_texts_are_in_every_language(served):
    """What our scripts say, with the same {placeholders} everywhere."""
    english, problems = served["en"]["sa3"], []
    for language in LANGUAGES:
        own = served[language]["sa3"]
        path = f"locales/{language}/main.json"
        problems += [f"{path} lacks sa3.{k}: {english[k]!r}" for k in english if k not in own]
        problems += [f"{path}: sa3.{key} is not in English" for key in own if key not in english]
        problems += [
            f"{path}: sa3.{key} needs {sorted(PLACEHOLDER.findall(english[key]))}"
            for key in english.keys() & own.keys()
            if sorted(PLACEHOLDER.findall(own[key])) != sorted(PLACEHOLDER.findall(english[key]))
        ]
    assert_none(problems)


def test_every_node_has_a_help_page_that_explains_its_inputs(ours, comfy):
    problems = []
    for name, node in ours.items():
        path = HELP / f"{name}.md"
        if not path.is_file():
            problems.append(f"js/docs/{name}.md is missing")
            continue
        text = path.read_text("utf-8")
        for key, entry in _inputs(node).items():
            for part in (f"`{key}`", entry[1]["tooltip"]):
                if part not in text:
                    problems.append(f"js/docs/{name}.md does not say: {part}")
        if not text.startswith(f"# {node['display_name']}\n"):
            problems.append(f"js/docs/{name}.md does not start with '# {node['display_name']}'")
    problems += [f"{p.name}: no such node" for p in HELP.glob("*.md") if p.stem not in ours]
    assert_none(problems)
    served = comfy.client.get_bytes("/extensions/ComfyUI-SA3/docs/SA3LoadModel.md")
    assert served.decode("utf-8") == (HELP / "SA3LoadModel.md").read_text("utf-8")
