"""The core stays usable without ComfyUI, and readable: checked on the source itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.support import ROOT

CORE = ROOT / "sa3_core"
HOST = ("comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server")
WEB = ("aiohttp",)
CLI = ("cli/main.py",)  # talks to a terminal
MAX_LINES, MAX_PARAMETERS = 400, 8

FILES = sorted(CORE.rglob("*.py"))
NODES = sorted((ROOT / "nodes").rglob("*.py"))
TREES = {
    path.relative_to(CORE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES
}
CHECKED = pytest.mark.parametrize("name", TREES)


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(level, module) of every import, level 0 = absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def public_api(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Public functions and classes of a module, and public methods of those classes."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node.name, node
        for method in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                yield f"{node.name}.{method.name}", method


def parameters(function: ast.FunctionDef) -> list[str]:
    args = function.args
    names = [a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def test_there_is_a_core_to_check():
    assert len(FILES) > 20
    assert "networks/dit.py" in TREES


@CHECKED
def test_imports_neither_the_host_nor_the_web(name):
    for level, module in imports(TREES[name]):
        root = module.split(".")[0]
        assert level > 0 or root not in (*HOST, *WEB), f"{name} imports {module}"


@CHECKED
def test_imports_itself_only_relatively(name):
    """ComfyUI loads the pack under another name: an absolute import would load a second copy."""
    for level, module in imports(TREES[name]):
        assert level > 0 or module.split(".")[0] != "sa3_core", f"{name} imports {module}"
        assert level <= 1 + name.count("/"), f"{name} reaches out of the package"


@pytest.mark.parametrize("name", [name for name in TREES if name not in CLI])
def test_prints_nothing(name):
    calls = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.Call)]
    assert not [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


@CHECKED
def test_runs_no_code_from_files(name):
    """No eval, exec or pickle anywhere."""
    assert not [m for _, m in imports(TREES[name]) if m.split(".")[0] in ("pickle", "shelve")]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "torch.load"), f"{name}:{node.lineno}"


@CHECKED
def test_every_public_thing_is_documented(name):
    assert ast.get_docstring(TREES[name]) is not None, f"{name} has no docstring"
    api = [(where, node) for where, node in public_api(TREES[name]) if node.name != "forward"]
    assert [where for where, node in api if ast.get_docstring(node) is None] == []


@CHECKED
def test_functions_stay_narrow(name):
    functions = [n for n in ast.walk(TREES[name]) if isinstance(n, ast.FunctionDef)]
    for function in functions:
        where = f"{name}:{function.lineno} {function.name}"
        assert len(parameters(function)) <= MAX_PARAMETERS, where
    for where, node in public_api(TREES[name]):
        if isinstance(node, ast.FunctionDef):
            assert node.args.kwarg is None, f"{name}: {where} swallows **kwargs"


@pytest.mark.parametrize(
    "path", [*FILES, *NODES], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_files_stay_short(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_LINES, f"{path.name} has {lines} lines"


@pytest.mark.parametrize(
    "path",
    [p for p in NODES if ROOT / "nodes" / "bridge" not in p.parents],
    ids=lambda path: path.name,
)
def test_only_the_bridge_touches_the_host(path):
    """Node files know the node API and the bridge; everything else of ComfyUI stays behind it."""
    for level, module in imports(ast.parse(path.read_text(encoding="utf-8"))):
        root = module.split(".")[0]
        assert level > 0 or root == "comfy_api" or root not in HOST, f"{path.name} imports {module}"


def test_importing_the_core_draws_in_no_host(tmp_path: Path):
    """In a fresh process, from another folder."""
    code = (
        "import sys, importlib, pathlib\n"
        f"sys.path.append({str(ROOT)!r})\n"
        f"root = pathlib.Path({str(CORE)!r})\n"
        "for path in root.rglob('*.py'):\n"
        "    if path.stem != '__main__':\n"
        "        parts = path.relative_to(root.parent).with_suffix('').parts\n"
        "        importlib.import_module('.'.join(parts).removesuffix('.__init__'))\n"
        "roots = {name.split('.')[0] for name in sys.modules}\n"
        f"assert not roots & set({(*HOST, *WEB)!r}), roots\n"
        "assert 'transformers' not in roots, 'imported before it is needed'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
