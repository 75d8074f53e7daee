"""The task runner's own logic: what it unpacks, what it calls missing, what it accepts."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import tarfile
from types import ModuleType

import pytest

from tests.helpers import chromium, harness
from tests.helpers.support import ROOT
from tests.tools import demo_set


@pytest.fixture(scope="module")
def dev() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sa3_dev", ROOT / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sa3_dev"] = module  # its NamedTuple looks itself up there
    spec.loader.exec_module(module)
    return module


def write_sdist(path, names, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.size = 2 if kind == tarfile.REGTYPE else 0
            member.linkname = "/etc/passwd"
            tar.addfile(member, io.BytesIO(b"ok"))
    return path


def test_only_the_vendored_comfyui_is_unpacked(dev, tmp_path):
    names = ["p-1/vendor/ComfyUI/main.py", "p-1/vendor/ComfyUI/a/b.py", "p-1/setup.py"]
    archive = write_sdist(tmp_path / "p.tar.gz", names)
    dev.unpack_vendored(archive, tmp_path / "out")
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.py")}
    assert files == {"main.py", "a/b.py"}


@pytest.mark.parametrize(
    "name", ["p-1/vendor/ComfyUI/../../../../evil.py", "p-1/vendor/ComfyUI/a/../../../evil.py"]
)
def test_a_path_that_leaves_the_folder_is_refused(dev, tmp_path, name):
    archive = write_sdist(tmp_path / "p.tar.gz", [name])
    with pytest.raises(dev.TaskError, match="bad name"):
        dev.unpack_vendored(archive, tmp_path / "out")
    assert not list(tmp_path.rglob("evil.py"))


def test_links_are_not_unpacked(dev, tmp_path):
    archive = write_sdist(tmp_path / "p.tar.gz", ["p-1/vendor/ComfyUI/main.py"], tarfile.SYMTYPE)
    with pytest.raises(dev.TaskError, match="no ComfyUI"):
        dev.unpack_vendored(archive, tmp_path / "out")


def test_missing_names_what_is_absent_or_of_another_version(dev):
    installed = f"pytest=={pytest.__version__}"
    wanted = [installed, "pytest==0.1", "no-such-package-sa3", "x; sys_platform == 'no-system'"]
    assert dev.missing(wanted) == wanted[1:3]


def test_a_folder_without_comfyui_is_refused(dev, tmp_path):
    with pytest.raises(dev.TaskError, match=r"main\.py"):
        dev.setup(tmp_path)


def test_unknown_arguments_are_refused_where_nobody_takes_them():
    command = [sys.executable, str(ROOT / "dev.py"), "setup", "--no-such-flag"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--no-such-flag" in done.stderr


def test_the_demo_changes_only_what_was_asked():
    graph = {"1": {"class_type": "A", "inputs": {"x": 1, "y": 2}}}
    assert demo_set.fill_in(graph, {("A", "x"): 5, ("A", "y"): None})["1"]["inputs"] == {
        "x": 5,
        "y": 2,
    }
    assert graph["1"]["inputs"] == {"x": 1, "y": 2}
    with pytest.raises(KeyError, match="no B with an input x"):
        demo_set.fill_in(graph, {("B", "x"): 1})


def test_the_demo_graph_has_every_input_that_the_demo_sets():
    graph = json.loads(demo_set.GRAPH.read_text("utf-8"))
    classes = {node["class_type"]: node["inputs"] for node in graph.values()}
    assert {"model"} <= set(classes["SA3LoadModel"])
    assert {"text"} <= set(classes["SA3TextEncode"])
    assert {"seconds"} <= set(classes["SA3EmptyLatent"])
    assert {"seed"} <= set(classes["SA3Sampler"])
    assert {"filename_prefix"} <= set(classes["SA3SaveAudio"])


def test_a_stale_link_to_the_pack_is_replaced_and_its_target_kept(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    link = tmp_path / "custom_nodes" / harness.PACK_NAME
    link.parent.mkdir()
    try:
        link.symlink_to(elsewhere, target_is_directory=True)
    except OSError:
        pytest.skip("this system lets users make no symlinks")
    assert harness.link_pack(tmp_path).resolve() == ROOT
    assert (elsewhere / "file").is_file()
    assert harness.link_pack(tmp_path) == link  # a good link stays


def test_a_browser_given_by_name_wins_and_a_wrong_one_is_not_replaced(monkeypatch, tmp_path):
    browser = tmp_path / "browser"
    monkeypatch.setenv("SA3_BROWSER", str(browser))
    assert chromium.find_browser() is None
    browser.touch()
    assert chromium.find_browser() == browser
    assert "env" not in chromium.launch_options(browser)
    assert "LD_LIBRARY_PATH" in chromium.launch_options(chromium.NPM_FOLDER / "chromium")["env"]


@pytest.mark.parametrize("given", [[], ["--comfyui", "there"]])
def test_benchmarks_are_told_of_comfyui_and_of_all_that_was_asked(dev, monkeypatch, given):
    prepared, called = [], []
    pinned = dev.DEV / "ComfyUI-pinned"

    def setup(comfyui=None, **how):
        prepared.append(how)
        return comfyui or pinned

    monkeypatch.setattr(dev, "setup", setup)
    monkeypatch.setattr(dev, "call", lambda *asked: called.append(asked) or 7)
    asked = ["card", "--quick", "--device", "cpu"]
    args, rest = dev.build_parser().parse_known_args(["bench", *given, *asked])
    assert args.run(args, rest) == 7
    ((command, env),) = called
    assert command == [dev.PYTHON, "-m", "tests.benchmarks", *asked]
    assert env["SA3_COMFYUI"] == ("there" if given else str(pinned))
    assert prepared == [{"extra": dev.BENCH}]
    assert {"PATH", "SA3_COMFYUI"} <= set(env)


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        ([], True),
        (["-x", "-k", "regions"], True),
        (["tests"], True),
        (["tests/browser/test_regions.py::test_drawing"], True),
        (["tests/core", "tests/browser"], True),
        (["tests/core"], False),
        (["tests/nodes/test_schema.py", "-x"], False),
    ],
)
def test_a_browser_is_fetched_only_for_tests_of_the_page(dev, arguments, needed):
    assert dev.needs_browser(arguments) is needed
