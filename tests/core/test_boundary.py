"""The core stays usable without ComfyUI, and readable: checked on the source itself."""

from __future__ import annotations

import ast
import re
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

# The architecture: each room, and the rooms whose modules it may import beside its own; lower rooms
# first. Rooms are the packages and single files of `sa3_core`, the packages of `nodes/bridge`, and
# the node files one by one. `text.conditioning` and the like are that one module of a room.
_NETS = ("networks", "text.conditioning")
_BASE = ("errors", "registry", "geometry", "checks")
_CORE = ("files", "text", "audio", "networks", "editing", "codec", "checkpoints", "sampling")
_ALL = (*_CORE, "adapters", "pieces", "pipeline", *_BASE)
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "registry": ("errors",),
    "geometry": ("errors",),
    "checks": ("errors",),
    "files": _BASE,
    "text": ("files", *_BASE),
    "audio": ("files", *_BASE),
    "measures": ("audio", *_BASE),
    "evaluation": ("measures", "audio", *_BASE),
    "networks": ("text.conditioning", *_BASE),
    "editing": ("audio", *_BASE),
    "codec": ("networks", "audio.waveform", "files", *_BASE),
    "checkpoints": ("networks", "text", "files", *_BASE),
    "sampling": (*_NETS, *_BASE),
    "adapters": ("checkpoints", "networks", "files", *_BASE),
    "datasets": ("codec", "checkpoints", "audio", "text", "files", *_BASE),
    "training": (
        *("datasets", "adapters", "sampling", "checkpoints", "networks", "text", "files"),
        *_BASE,
    ),
    "pieces": (*_CORE, *_BASE),
    "pipeline": (*_CORE, "adapters", "pieces", *_BASE),
    "jobs": (*_ALL, "datasets"),
    "cli": (*_ALL, "jobs", "datasets", "training", "measures", "evaluation"),
    "host": _ALL,
    "sockets": ("host", "training", *_ALL),
    "work": ("sockets", "host", "measures", "datasets", "training", "jobs", *_ALL),
    "web": ("work", "sockets", "host", *_ALL),
    "inputs": _ALL,
    "node file": ("inputs", "work", "sockets", "host", "datasets", "training", "jobs", *_ALL),
}
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


def room_of(module: str) -> str:
    """The room that a module (`sa3_core.networks.dit`, `nodes.bridge.work.saving`) lies in."""
    top, _, inner = module.partition(".")
    rooms = inner.split(".")
    if top == "sa3_core":
        return rooms[0]
    if rooms[0] == "bridge":
        return rooms[1] if len(rooms) > 1 else "bridge"
    return "inputs" if rooms[0] == "inputs" else "node file"


def imported_modules(module: str, source: str) -> Iterator[str]:
    """Every module of the pack that a source imports, wherever it stands in the file."""
    known = {path.relative_to(ROOT).with_suffix("").as_posix() for path in (*FILES, *NODES)}
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        inside = node.module.split(".") if node.module else []
        base = ".".join([*package[: len(package) - node.level + 1], *inside])
        for alias in node.names:
            name = f"{base}.{alias.name}"  # `from ..networks import dit` imports networks.dit
            yield name if name.replace(".", "/") in known else base


def forbidden_imports(module: str, source: str) -> list[str]:
    """What a module imports and may not, by MAY_IMPORT."""
    room, found = room_of(module), []
    for name in imported_modules(module, source):
        target = room_of(name)
        same = target == room and (room != "node file" or name == module)
        one = f"{target}.{name.rpartition('.')[2]}"
        if not same and not {target, one} & set(MAY_IMPORT[room]):
            found.append(f"{module} imports {name}")
    return found


def public_api(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Public functions and classes of a module, and public methods of those classes."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list):
            continue  # a signature of what follows
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


@pytest.mark.parametrize(
    "path",
    [p for p in (*FILES, *NODES) if p.parent not in (CORE, ROOT / "nodes") or p.stem[0] != "_"],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_imports_only_the_rooms_below(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    assert forbidden_imports(module, path.read_text(encoding="utf-8")) == []


def test_rooms_import_only_rooms_that_stand_before_them():
    seen: set[str] = set()
    for room, allowed in MAY_IMPORT.items():
        lower = {name.partition(".")[0] for name in allowed}
        assert lower <= seen, room
        seen.add(room)


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("sa3_core.networks.dit", "from ..sampling.noise import draw", "sampling.noise"),
        ("sa3_core.networks.dit", "from .. import pipeline", "pipeline"),
        ("sa3_core.networks.dit", "def f():\n    from ..codec import memory", "codec.memory"),
        (
            "sa3_core.text.encoder",
            "if TYPE_CHECKING:\n    from ..audio.file import x",
            "audio.file",
        ),
        ("sa3_core.sampling.sample", "from ..text.encoder import T5Gemma", "text.encoder"),
        ("sa3_core.registry", "from .geometry import HOP", "geometry"),
        ("nodes.bridge.host.running", "from ..sockets.vae import SA3VAE", "sockets.vae"),
        ("nodes.bridge.sockets.vae", "from ..work import saving", "work.saving"),
        ("nodes.bridge.work.saving", "from ..web.peaks import peaks", "web.peaks"),
        ("nodes.bridge.work.saving", "from ....sa3_core.cli.main import main", "cli.main"),
        ("nodes.latent", "from .sampling import SA3Sampler", "nodes.sampling"),
        ("nodes.latent", "from .bridge.web.peaks import peaks", "web.peaks"),
        ("nodes.bridge.work.saving", "from ...latent import SA3SAMEDecode", "nodes.latent"),
    ],
)
def test_a_forbidden_import_is_found(module, source, expected):
    found = forbidden_imports(module, source)
    assert len(found) == 1
    assert found[0].endswith(expected)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sa3_core.sampling.sample", "from ..text.conditioning import TextConditioning"),
        ("sa3_core.sampling.sample", "from ..networks import dit\nfrom .noise import draw"),
        ("nodes.latent", "from .inputs import CATEGORY\nfrom .bridge.work.coding import encode"),
        ("nodes.bridge.work.saving", "from ..host import running\nimport torch"),
    ],
)
def test_an_allowed_import_is_not(module, source):
    assert forbidden_imports(module, source) == []


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


def display_names() -> list[str]:
    """What users call the nodes."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in NODES]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    schemas = [call for call in calls if ast.unparse(call.func) == "io.Schema"]
    keywords = [k for call in schemas for k in call.keywords if k.arg == "display_name"]
    return [ast.literal_eval(keyword.value) for keyword in keywords]


DISPLAY_NAMES = display_names()


@CHECKED
def test_texts_name_no_node(name):
    """The command line and scripts show the core's errors too: it names values."""
    tree = TREES[name]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, documented)
    }
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    shown = [t for t in texts if isinstance(t, str) and " " in t and t not in docs]
    assert len(DISPLAY_NAMES) > 20
    for node in DISPLAY_NAMES:
        assert not [text for text in shown if re.search(rf"\b{node}\b", text)], node
