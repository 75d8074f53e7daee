"""What of ComfyUI this pack uses, read off its source: names, calls of them, methods replaced."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from inspect import Parameter, Signature
from pathlib import Path

from tests.helpers.support import ROOT

HOST = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "nodes", "server")
# Objects of the host by the names that the bridge gives them.
OBJECTS = {
    "patcher": "comfy.model_patcher.ModelPatcher",
    "_patcher": "comfy.model_patcher.ModelPatcher",
    "clone": "comfy.model_patcher.ModelPatcher",
    "patchers": "comfy.model_patcher",
    "operations": "comfy.ops.manual_cast",
    "_quant_ops": "comfy.quant_ops",
    "server": "server.PromptServer",
    "bar": "comfy.utils.ProgressBar",
}


@dataclass
class Use:
    """How one name of the host is used.

    Attributes:
        places: `file:line` of every use.
        calls: (positional arguments, keywords) of every call whose arguments are all spelled out.
        replaced: parameters of our methods that stand in for the host's method of this name.
    """

    places: list[str] = field(default_factory=list)
    calls: set[tuple[int, tuple[str, ...]]] = field(default_factory=set)
    replaced: list[Signature] = field(default_factory=list)


def signature(arguments: ast.arguments) -> Signature:
    """Parameters of a function as written; defaults only as "there is one"."""
    positional = [*arguments.posonlyargs, *arguments.args]
    bare = len(positional) - len(arguments.defaults)
    out = [
        Parameter(
            each.arg,
            Parameter.POSITIONAL_OR_KEYWORD,
            default=Parameter.empty if index < bare else None,
        )
        for index, each in enumerate(positional)
    ]
    if arguments.vararg:
        out.append(Parameter(arguments.vararg.arg, Parameter.VAR_POSITIONAL))
    for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        value = Parameter.empty if default is None else None
        out.append(Parameter(each.arg, Parameter.KEYWORD_ONLY, default=value))
    if arguments.kwarg:
        out.append(Parameter(arguments.kwarg.arg, Parameter.VAR_KEYWORD))
    return Signature(out)


def parse_signature(text: str) -> Signature:
    """The same of a text such as `models, memory_required=0, **kwargs`."""
    (function,) = ast.parse(f"def f({text}): ...").body
    assert isinstance(function, ast.FunctionDef)
    return signature(function.args)


def _aliases(tree: ast.AST) -> dict[str, str]:
    """Names in a file that stand for something of the host, and what they stand for."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                if top in HOST:
                    found[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            if module.partition(".")[0] in HOST:
                found |= {a.asname or a.name: f"{module}.{a.name}" for a in node.names}
    return found


def _dotted(node: ast.AST) -> list[str]:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [*parts, node.id][::-1] if isinstance(node, ast.Name) else []


def _resolve(node: ast.AST, aliases: dict[str, str]) -> str | None:
    """The host's name behind an expression such as `mm.vae_device` or `self.patcher.clone`."""
    if isinstance(node, ast.Call):  # getattr(comfy.memory_management, "aimdo_enabled", False)
        match node:
            case ast.Call(func=ast.Name("getattr"), args=[holder, ast.Constant(str(name)), *_]):
                inside = _resolve(holder, aliases) or OBJECTS.get(".".join(_dotted(holder)))
                return f"{inside}.{name}" if inside else None
        return None
    parts = _dotted(node)
    if not parts:
        return None
    if parts[0] in aliases:
        return ".".join([aliases[parts[0]], *parts[1:]])
    holders = [index for index, part in enumerate(parts[:-1]) if part in OBJECTS]
    if not holders:
        return None
    # One step into the object: what lies below it may be ours (`patcher.model.info`).
    return f"{OBJECTS[parts[holders[-1]]]}.{parts[holders[-1] + 1]}"


def _call(node: ast.Call) -> tuple[int, tuple[str, ...]] | None:
    keywords = tuple(keyword.arg for keyword in node.keywords if keyword.arg)
    starred = any(isinstance(argument, ast.Starred) for argument in node.args)
    if starred or len(keywords) < len(node.keywords):
        return None
    return len(node.args), keywords


def _super_call(node: ast.AST) -> str | None:
    """`name` of a call `super().name(...)`."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name("super")), attr=name)):
            return name
    return None


def _subclasses(tree: ast.AST, aliases: dict[str, str]) -> Iterator[tuple[ast.ClassDef, list[str]]]:
    """Classes that inherit from the host, with the host's names of their bases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = [base for base in (_resolve(each, aliases) for each in node.bases) if base]
            if bases:
                yield node, bases


def used_names(folder: Path = ROOT / "nodes") -> dict[str, Use]:
    """Every name of the host below a folder, by its full name."""
    found: defaultdict[str, Use] = defaultdict(Use)
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        aliases, where = _aliases(tree), path.relative_to(folder).as_posix()
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            parent = parents.get(node)
            if not isinstance(node, ast.Name | ast.Attribute | ast.Call):
                continue
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(parent, ast.Attribute):
                continue  # a part of a longer name
            name = _resolve(node, aliases)
            if name is None:
                continue
            found[name].places.append(f"{where}:{node.lineno}")
            whole = _dotted(node)[-1:] == name.split(".")[-1:]
            if whole and isinstance(parent, ast.Call) and parent.func is node:
                found[name].calls |= {call for call in [_call(parent)] if call}
        for subclass, bases in _subclasses(tree, aliases):
            for node in ast.walk(subclass):
                name = _super_call(node)
                call = _call(node) if isinstance(node, ast.Call) and name else None
                if call:
                    found[bases[0] if name == "__init__" else f"{bases[0]}.{name}"].calls.add(call)
            for method in subclass.body:
                if isinstance(method, ast.FunctionDef) and method.name != "__init__":
                    for base in bases:
                        use = found[f"{base}.{method.name}"]
                        use.places.append(f"{where}:{method.lineno}")
                        use.replaced.append(signature(method.args))
    return dict(found)
