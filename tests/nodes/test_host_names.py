"""Every name of ComfyUI that the pack uses: it is there, and our calls and methods fit it.

`host_names.json` lists them by ComfyUI's file, with parameters as they stand in the newest version
of that file that could be read (`commit`; without one, as in 0.30.0). So a call is held against the
ComfyUI that runs here and against the newest. A name that is used and not listed fails.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.host_names import parse_signature, signature, used_names
from tests.helpers.support import ROOT, comfyui_root

FILES: dict[str, Any] = json.loads(
    (Path(__file__).parent / "host_names.json").read_text(encoding="utf-8")
)
TABLE: dict[str, str | None] = {
    name: text for file in FILES.values() for name, text in file["names"].items()
}
USED = used_names()
NODE = "comfy_api.latest.io.ComfyNode."  # its methods take what the schema says
MISSING = object()


def in_server(name: str) -> Any:
    """A member of `server.py`: it is read, since not every version's can be imported in here."""
    tree = ast.parse((comfyui_root() / "server.py").read_text(encoding="utf-8"))
    _, owner, *member = name.split(".")
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == owner]
    if not classes or not member:
        return None if classes else MISSING
    for node in ast.walk(classes[0]):
        if isinstance(node, ast.FunctionDef) and node.name == member[0]:
            return signature(node.args)
        stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if stored and ast.unparse(node) in (f"self.{member[0]}", f"{owner}.{member[0]}"):
            return None
    return MISSING


def resolve(name: str) -> Any:
    """What a full name stands for in the ComfyUI of this process; MISSING where there is none.

    Attributes that exist only on instances give None: their class assigns them when it is made.
    """
    parts = name.split(".")
    if parts[0] == "server":
        return in_server(name)
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            if hasattr(found, part):
                found = getattr(found, part)
                continue
            if not inspect.isclass(found):
                return MISSING
            init = found.__init__
            made = inspect.getsource(init) if inspect.isfunction(init) else ""
            assigned = re.search(rf"\b(self|{found.__name__})\.{part}\s*[:=]", made)
            return None if assigned else MISSING
        return found
    return MISSING


def without_self(found: Signature) -> Signature:
    kept = [p for p in found.parameters.values() if p.name not in ("self", "cls")]
    return Signature(kept)


def signatures(name: str) -> list[Signature]:
    """Parameters of a name: as it runs here, and as it was last read."""
    found, text = resolve(name), TABLE[name]
    if inspect.isclass(found) and issubclass(found, BaseException):
        return []  # raised and caught by its name alone
    if callable(found):
        found = inspect.signature(found)
    running = [without_self(found)] if isinstance(found, Signature) else []
    return running if text is None else [*running, parse_signature(text)]


def unfit(calls: set[tuple[int, tuple[str, ...]]], found: Signature) -> list[str]:
    """Those calls that a function with such parameters would refuse."""
    out = []
    for count, keywords in sorted(calls):
        try:
            found.bind(*[None] * count, **dict.fromkeys(keywords))
        except TypeError as error:
            out.append(f"{count} arguments and {keywords}: {error}")
    return out


def not_taken(ours: Signature, theirs: Signature) -> list[str]:
    """Parameters of the host's method that a caller could not give to ours."""
    mine = without_self(ours).parameters
    kinds = {p.kind for p in mine.values()}
    named = [p.name for p in mine.values() if p.kind == Parameter.POSITIONAL_OR_KEYWORD]
    wanted = [p for p in theirs.parameters.values() if p.kind == Parameter.POSITIONAL_OR_KEYWORD]
    by_name = [p.name for p in wanted if p.name not in mine and Parameter.VAR_KEYWORD not in kinds]
    by_place = [p.name for p in wanted[len(named) :] if Parameter.VAR_POSITIONAL not in kinds]
    return sorted({*by_name, *by_place})


def test_every_name_that_is_used_is_listed(comfyui):
    own = {name for name, use in USED.items() if use.replaced and resolve(name) is MISSING}
    assert sorted(set(USED) - own - set(TABLE)) == [], "compare them with the newest file, add them"
    assert sorted(set(TABLE) - set(USED)) == [], "no longer used"


@pytest.mark.parametrize("name", TABLE)
def test_it_is_there_and_our_calls_fit(comfyui, name):
    assert resolve(name) is not MISSING
    for found in signatures(name):
        assert unfit(USED[name].calls, found) == [], found


@pytest.mark.parametrize(
    "name", [n for n, use in USED.items() if use.replaced and n in TABLE and NODE not in n]
)
def test_our_methods_take_what_the_replaced_ones_take(comfyui, name):
    for theirs in signatures(name):
        for ours in USED[name].replaced:
            assert not_taken(ours, theirs) == [], theirs


def test_the_docs_say_which_files_were_read():
    text = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
    for path, file in FILES.items():
        commit = file["commit"][:7] if file["commit"] else "as in 0.30.0"
        assert f"| `{path}` | {commit} |" in text


def test_what_moves_is_found():
    used = {(1, ("memory_required",))}
    assert unfit(used, parse_signature("models, memory_required=0")) == []
    assert len(unfit(used, parse_signature("models, minimum=0"))) == 1
    assert len(unfit({(2, ())}, parse_signature("models"))) == 1
    theirs = parse_signature("pixel_samples, not_video=None")
    assert not_taken(parse_signature("self, pixel_samples"), theirs) == ["not_video"]
    assert not_taken(parse_signature("self, samples, *rest, **options"), theirs) == []
    assert not_taken(parse_signature("self, samples, not_video"), theirs) == ["pixel_samples"]


def test_the_source_is_read_as_written(tmp_path):
    source = (
        "import comfy.model_management as mm\n"
        "import comfy.sd\n"
        "from server import PromptServer\n"
        "class Ours(comfy.sd.VAE):\n"
        "    def decode(self, samples_in): return super().decode(samples_in, vae_options={})\n"
        "    def load(self): self.patcher.clone(disable_dynamic=True)\n"
        "server = getattr(PromptServer, 'instance', None)\n"
        "mm.load_models_gpu([1], memory_required=2)\n"
    )
    (tmp_path / "ours.py").write_text(source, encoding="utf-8")
    used = used_names(tmp_path)
    assert used["comfy.model_management.load_models_gpu"].calls == {(1, ("memory_required",))}
    assert used["comfy.model_patcher.ModelPatcher.clone"].calls == {(0, ("disable_dynamic",))}
    assert used["comfy.sd.VAE.decode"].calls == {(1, ("vae_options",))}
    assert [list(s.parameters) for s in used["comfy.sd.VAE.decode"].replaced] == [
        ["self", "samples_in"]
    ]
    assert "server.PromptServer.instance" in used
    assert used["comfy.sd.VAE"].places == ["ours.py:4"]
