"""What the registry is told of the pack, and what its package holds: the checks it makes, and ours.

The fields are those of docs.comfy.org/registry/specifications, read as `comfy node validate` and
`comfy node publish` read them: what they would leave out with a warning fails here.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sa3_core.cli.arguments import OLD_PACKAGE, PACKAGE
from tests.helpers.support import ROOT
from tests.tools import make_icon

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads pyproject.toml itself")

MAX_BYTES = 1_500_000  # beside the demo model
MAX_MODEL_BYTES = 12_000_000
RAW = "https://raw.githubusercontent.com/comfyui-sa3/ComfyUI-SA3/main/"
VERSIONS = re.compile(r"(==|>=|<=|!=|~=|>|<)\d+\.\d+\.\d+")
SYSTEMS = ("Microsoft", "POSIX", "MacOS", "OS Independent")
ACCELERATORS = (
    *("GPU :: NVIDIA CUDA", "GPU :: AMD ROCm", "GPU :: Intel Arc", "GPU :: Apple Metal"),
    "NPU :: Huawei Ascend",
)
FRONTEND = "comfyui-frontend-package"


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def packed() -> list[str]:
    """Files that `comfy node publish` packs: what git keeps, without what .comfyignore names."""

    def listed(*arguments: str) -> set[str]:
        command = ["git", "ls-files", "-z", "--cached", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        return {name for name in done.stdout.decode().split("\0") if name}

    return sorted(listed() - listed("--ignored", "--exclude-from=.comfyignore"))


def test_names(told):
    name, comfy = told["project"]["name"], told["tool"]["comfy"]
    assert name == comfy["PublisherId"] == PACKAGE == "comfyui-sa3"
    assert comfy["DisplayName"] == "ComfyUI-SA3"
    assert re.fullmatch(r"[a-z][a-z0-9]*([-_.][a-z0-9]+)*", name)
    assert len(name) < 100


def test_version_licence_and_description(told):
    project = told["project"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert (ROOT / project["license"]["file"]).is_file()
    assert len(project["description"]) > 20


def test_links(told):
    urls = told["project"]["urls"]
    assert set(urls) == {"Repository", "Documentation", "Issues"}
    assert all(url.startswith(urls["Repository"]) for url in urls.values())
    page = urls["Documentation"].removeprefix(f"{urls['Repository']}/blob/main/")
    assert (ROOT / page).is_file()


def test_systems_and_accelerators(told):
    found = told["project"]["classifiers"]
    systems = [c.removeprefix("Operating System :: ") for c in found if c.startswith("Operating")]
    accelerators = [c.removeprefix("Environment :: ") for c in found if c.startswith("Environ")]
    assert systems
    assert all(system.startswith(SYSTEMS) for system in systems)
    assert accelerators
    assert set(accelerators) <= set(ACCELERATORS)


def test_ranges(told):
    (page,) = [d for d in told["project"]["dependencies"] if d.startswith(FRONTEND)]
    assert VERSIONS.fullmatch(page.removeprefix(FRONTEND))
    assert VERSIONS.fullmatch(told["tool"]["comfy"]["requires-comfyui"])


def test_no_page_is_installed_with_the_pack():
    """ComfyUI-Manager installs requirements.txt, and the page is ComfyUI's own choice."""
    assert FRONTEND not in (ROOT / "requirements.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(("key", "widest", "highest"), [("Icon", 800, 400), ("Banner", 2000, 1000)])
def test_pictures(told, key, widest, highest):
    link = told["tool"]["comfy"][key]
    assert link.startswith(RAW)
    path = ROOT / link.removeprefix(RAW)
    width, height, _ = make_icon.SIZES[path.name]
    assert width <= widest
    assert height <= highest
    assert path.read_text(encoding="utf-8") == make_icon.draw(*make_icon.SIZES[path.name])
    assert f'width="{width}" height="{height}"' in path.read_text(encoding="utf-8")


def test_a_banner_has_the_registrys_shape():
    width, height, _ = make_icon.SIZES["banner.svg"]
    assert width * 9 == height * 21


def test_no_code_that_the_registry_refuses(packed):
    """exec, eval and several statements on a line: what `comfy node validate` asks ruff for."""
    files = [name for name in packed if name.endswith(".py")]
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "S102,S307,E702"]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_package_is_small(packed):
    content = io.BytesIO()
    model = [name for name in packed if name == "demo_model/demo.safetensors"]
    assert [(ROOT / name).stat().st_size < MAX_MODEL_BYTES for name in model] == [True]
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (name for name in packed if name not in model):
            archive.write(ROOT / name, name)
    assert len(content.getvalue()) < MAX_BYTES


def test_the_package_holds_what_runs_and_nothing_else(packed):
    rooms = {Path(name).parts[0] for name in packed}
    needed = {"__init__.py", "nodes", "sa3_core", "js", "locales", "example_workflows", "subgraphs"}
    read = {"README.md", "LICENSE", "CHANGELOG.md", "docs"}
    assert needed | read | {"requirements.txt", "pyproject.toml"} <= rooms
    assert not rooms & {"tests", "dev.py", ".ci", "package.json", "tsconfig.json"}
    assert not [name for name in packed if "/images/" in name]
    help_pages = [name for name in packed if name.startswith("js/docs/")]
    assert len(help_pages) > 20
    assert not [n for n in help_pages if "images/" in (ROOT / n).read_text(encoding="utf-8")]


def test_what_the_package_leaves_out_is_run_from_a_clone(packed):
    """The README tells to run `dev.py` only after it told to clone."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = text.index("dev.py")
    assert "dev.py" not in packed
    assert "a clone: the registry's package leaves" in text[told - 200 : told + 40]
    assert "git clone" in text[told : text.index("python dev.py")]


def test_an_install_under_the_old_name_is_said(monkeypatch, capsys):
    from sa3_core.cli import main

    found = {PACKAGE: "0.1.0", OLD_PACKAGE: "0.0.9"}
    monkeypatch.setattr(main, "installed_version", found.get)
    monkeypatch.setenv("SA3_MODELS", str(ROOT / "none"))
    main.main(["models"])
    assert f"pip uninstall {OLD_PACKAGE}" in " ".join(capsys.readouterr().err.split())
    del found[OLD_PACKAGE]
    main.main(["models"])
    assert OLD_PACKAGE not in capsys.readouterr().err
