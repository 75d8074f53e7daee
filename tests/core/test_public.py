"""The package's public face: every name is there, and importing it costs nothing."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

import sa3_core
from tests.helpers.support import ROOT


def test_every_public_name_resolves():
    for name in sa3_core.__all__:
        assert getattr(sa3_core, name) is not None
        assert name in dir(sa3_core)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sa3_core.nothing


def test_type_checkers_see_the_same_names():
    """The imports under TYPE_CHECKING and the table that loads lazily agree, modules included."""
    tree = ast.parse((ROOT / "sa3_core" / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == sa3_core._MODULE_OF


def test_every_package_is_installed():
    """As pyproject.toml lists them, beside the demo model's data; nodes and tests stay out."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    listed = set(re.findall(r'^    "(sa3_core[a-z_.]*)",', text, flags=re.MULTILINE))
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "sa3_core").rglob("*.py")}
    wanted = {folder.as_posix().replace("/", ".") for folder in folders}
    assert listed == wanted | {"sa3_core.demo_model"}


def test_no_public_name_is_shadowed_by_a_module():
    # importing a submodule sets an attribute of that name on the package
    modules = {module.name for module in pkgutil.iter_modules(sa3_core.__path__)}
    assert not modules & set(sa3_core.__all__)
    importlib.import_module("sa3_core.pipeline")
    assert inspect.isfunction(sa3_core.generate)


def test_importing_the_package_imports_nothing_heavy():
    heavy = "('torch', 'av', 'transformers')"
    code = f"import sys, sa3_core; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
