"""What the nodes' schemas say, written where people read it: `python -m tests.tools.node_texts`.

Makes locales/en/nodeDefs.json, the head of every help page in js/docs and the rows of the node
reference in README.md and docs/. Translations stay as they are; texts that no node has any more
are dropped from them, and `TODO` keeps which are missing or older than their English.
"""

# ruff: noqa: T201 - a command, it prints

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.helpers.support import ROOT

LOCALES = ROOT / "locales"
HELP = ROOT / "js" / "docs"
TODO = ROOT / "tests" / "tools" / "translations_todo.json"
ENGLISH = "en"
ROW = re.compile(r"^\| \[\*\*.*?\]\(([^)]*)js/docs/(\w+)\.md\)<br>`\w+`<br>.*\|$", re.MULTILINE)
INPUTS = "## Inputs"
OUTPUTS = "**Outputs**:"
NO_OUTPUTS = "\u2013"

Tree = dict[str, Any]


# --- texts ----------------------------------------------------------------------------------------
def english(schemas: list[Any]) -> Tree:
    """The content of locales/en/nodeDefs.json."""
    return {
        schema.node_id: {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {
                entry.id: {"name": entry.id, "tooltip": entry.tooltip} for entry in schema.inputs
            },
        }
        for schema in schemas
    }


def flat(tree: Tree, prefix: str = "") -> dict[str, str]:
    """Texts by dotted key."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        here = f"{prefix}{key}"
        found |= flat(value, f"{here}.") if isinstance(value, dict) else {here: value}
    return found


def pruned(tree: Tree, wanted: Tree) -> Tree:
    """A translation in the order of the English, without texts that it has no more."""
    return {
        key: pruned(tree[key], value) if isinstance(value, dict) else tree[key]
        for key, value in wanted.items()
        if key in tree
    }


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def left_to_translate(old: Tree, new: Tree, translation: Tree, outdated: Mapping[str, str]) -> Tree:
    """What a language lacks, and what it says of an English text that has changed since.

    Args:
        old: the English texts of the files.
        new: those of the schemas.
        translation: a language's texts.
        outdated: digests of translations that were out of date before, by key; one that reads
            otherwise now was done in the meantime.
    """
    before, now, there = flat(old), flat(new), flat(translation)
    changed = [key for key in there if key in before and key in now and before[key] != now[key]]
    waiting = [key for key, was in outdated.items() if there.get(key) and digest(there[key]) == was]
    keys = sorted(key for key in {*changed, *waiting} if key in now)
    missing = sorted(key for key in now if not there.get(key))
    return {"missing": missing, "outdated": {key: digest(there[key]) for key in keys}}


# --- pages ----------------------------------------------------------------------------------------
def input_line(entry: Any) -> str:
    """One input in a help page."""
    facts = []
    default = getattr(entry, "default", None)
    options = getattr(entry, "options", None)
    if default is None and options and entry.optional:
        default = options[0]
    if default is None:
        facts.append("optional" if entry.optional else "required")
    else:
        facts.append(f"default: {_said(default)}")
    if entry.io_type in ("INT", "FLOAT") and entry.max is not None and entry.max < 2**53:
        facts.append(f"{entry.min:g} to {entry.max:g}")
    if getattr(entry, "advanced", None):
        facts.append("advanced")
    return f"- `{entry.id}` ({', '.join(facts)}): {entry.tooltip}"


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, int | float) else str(value) or "empty"


def output_names(schema: Any) -> str:
    return ", ".join(output.display_name or output.io_type for output in schema.outputs)


def help_page(schema: Any, old: str) -> str:
    """A help page: its head from the schema, the rest as somebody wrote it."""
    _, _, rest = old.partition(f"{INPUTS}\n")
    lines = rest.splitlines()
    while lines and (not lines[0].strip() or lines[0].startswith(("- `", OUTPUTS))):
        del lines[0]
    head = [f"# {schema.display_name}", "", schema.description, "", INPUTS, ""]
    head += [input_line(entry) for entry in schema.inputs]
    if schema.outputs:
        head += ["", f"{OUTPUTS} {output_names(schema)}."]
    return "\n".join([*head, *([""] if lines else []), *lines]) + "\n"


def reference_row(schema: Any, path_to_root: str) -> str:
    """One row of the node reference; optional inputs stand in italics."""
    first = re.split(r"(?<=\.) ", schema.description, maxsplit=1)[0]
    link = f"{path_to_root}js/docs/{schema.node_id}.md"
    inputs = [f"*`{e.id}`*" if e.optional else f"`{e.id}`" for e in schema.inputs]
    node = f"[**{schema.display_name}**]({link})<br>`{schema.node_id}`<br>{first}"
    return f"| {node} | {', '.join(inputs)} | {output_names(schema) or NO_OUTPUTS} |"


def with_rows(page: str, schemas: Mapping[str, Any]) -> str:
    """A page with every row of the node reference in it written anew."""

    def row(match: re.Match[str]) -> str:
        schema = schemas.get(match[2])
        return reference_row(schema, match[1]) if schema else match[0]

    return ROW.sub(row, page)


# --- files ----------------------------------------------------------------------------------------
def _json(tree: Any) -> str:
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def _read_json(path: Path) -> Tree:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def generate(schemas: list[Any]) -> Iterator[tuple[Path, str]]:
    """Every file that follows from the schemas, and what it should hold."""
    new, path = english(schemas), LOCALES / ENGLISH / "nodeDefs.json"
    old, before = _read_json(path), _read_json(TODO)
    yield path, _json(new)
    todo = {}
    for folder in sorted(LOCALES.iterdir()):
        if folder.name == ENGLISH:
            continue
        translation = pruned(_read_json(folder / "nodeDefs.json"), new)
        yield folder / "nodeDefs.json", _json(translation)
        outdated = before.get(folder.name, {}).get("outdated", {})
        todo[folder.name] = left_to_translate(old, new, translation, outdated)
    yield TODO, _json(todo)
    by_id = {schema.node_id: schema for schema in schemas}
    for node_id, schema in by_id.items():
        page = HELP / f"{node_id}.md"
        yield page, help_page(schema, page.read_text("utf-8") if page.is_file() else "")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        yield page, with_rows(page.read_text("utf-8"), by_id)


def not_up_to_date(schemas: list[Any]) -> dict[Path, str]:
    """Files that say something else than the schemas, with what they should hold."""
    wanted = dict(generate(schemas))
    return {
        path: text
        for path, text in wanted.items()
        if not path.is_file() or path.read_text("utf-8") != text
    }


def report(todo: Tree) -> str:
    """What is left to translate, in words."""
    lines = []
    for language, left in todo.items():
        lines += [f"{language} lacks {key}" for key in left["missing"]]
        lines += [f"{language} is out of date: {key}" for key in left["outdated"]]
    return "\n".join(lines) or "All texts are translated."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if files differ")
    args = parser.parse_args()
    from tests.helpers.in_process import import_comfyui, import_pack, node_classes

    with tempfile.TemporaryDirectory() as base:
        import_comfyui(Path(base).resolve())
        schemas = [node.define_schema() for node in node_classes(import_pack())]
    changed = not_up_to_date(schemas)
    for path, text in changed.items():
        print(f"{'differs' if args.check else 'written'}: {path.relative_to(ROOT).as_posix()}")
        if not args.check:
            path.write_text(text, encoding="utf-8", newline="\n")
    print(report(json.loads(dict(generate(schemas))[TODO])))
    return int(bool(changed) and args.check)


if __name__ == "__main__":
    sys.exit(main())
