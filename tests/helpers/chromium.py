"""Find a Chromium for the browser tests, or get one. Standard library only.

    python tests/helpers/chromium.py [--install]

Prints the path of the executable and exits with 0, or says what is missing and exits with 1.
Order: $SA3_BROWSER, an installed Chrome, Chromium or Edge, one that an earlier --install got;
with --install then Debian's chromium (as root, where apt-get exists), then npm's
@sparticuz/chromium (Linux).
"""

# ruff: noqa: T201 - a command, it prints

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NPM_FOLDER = ROOT / ".dev" / "browser"
NPM_PACKAGE = "@sparticuz/chromium@153.0.0"
COMMANDS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    *("microsoft-edge", "microsoft-edge-stable", "msedge"),
)
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
NPM_FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{folder}/fonts</dir><cachedir>{folder}/cache</cachedir></fontconfig>
"""
PLACES = {
    "darwin": (
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
        "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    ),
    "win32": (
        r"%ProgramFiles%\Google\Chrome\Application\chrome.exe",
        r"%ProgramFiles(x86)%\Google\Chrome\Application\chrome.exe",
        r"%LocalAppData%\Google\Chrome\Application\chrome.exe",
        r"%ProgramFiles%\Microsoft\Edge\Application\msedge.exe",
        r"%ProgramFiles(x86)%\Microsoft\Edge\Application\msedge.exe",
    ),
}
# The package unpacks its browser into the temporary folder; TMPDIR keeps it with the project.
NPM_UNPACK = """
import { createRequire } from "node:module";
const require = createRequire(process.cwd() + "/x.js");
const { default: chromium } = await import(require.resolve("@sparticuz/chromium"));
console.log(await chromium.executablePath());
"""


def find_browser() -> Path | None:
    """An installed browser, or None."""
    given = os.environ.get("SA3_BROWSER")
    if given:
        return Path(given) if Path(given).is_file() else None
    on_path = (shutil.which(command) for command in COMMANDS)
    in_place = (os.path.expandvars(place) for place in PLACES.get(sys.platform, ()))
    from_npm = str(NPM_FOLDER / "chromium")
    for candidate in (*on_path, *in_place, from_npm):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    return None


def launch_options(browser: Path) -> dict[str, Any]:
    """Arguments and environment for Playwright's `chromium.launch`."""
    options: dict[str, Any] = {"executable_path": str(browser), "args": [*FLAGS]}
    if browser.parent == NPM_FOLDER:
        libraries = [str(NPM_FOLDER / "al2023" / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
        options["env"] = {
            **os.environ,
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
            "FONTCONFIG_FILE": str(NPM_FOLDER / "fonts.conf"),
        }
    return options


def install_with_apt() -> Path | None:
    """Debian's chromium, where this process may install it."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if not is_root or not shutil.which("apt-get"):
        return None
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]
    if not _succeeds(install, env=env) and _succeeds(["apt-get", "update"], env=env):
        _succeeds(install, env=env)
    return find_browser()


def install_with_npm() -> Path | None:
    """The browser of npm's @sparticuz/chromium, unpacked into .dev/browser."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node or sys.platform != "linux":
        return None
    NPM_FOLDER.mkdir(parents=True, exist_ok=True)
    install = [npm, "install", "--prefix", str(NPM_FOLDER), "--no-audit", "--no-fund", NPM_PACKAGE]
    if not _succeeds(install):
        return None
    fonts = NPM_FONTS.format(folder=NPM_FOLDER.as_posix())
    (NPM_FOLDER / "fonts.conf").write_text(fonts, encoding="utf-8")
    script = NPM_FOLDER / "unpack.mjs"
    script.write_text(NPM_UNPACK, encoding="utf-8")
    # Told that this is Amazon Linux, it unpacks the shared libraries it needs as well.
    env = {**os.environ, "TMPDIR": str(NPM_FOLDER), "AWS_EXECUTION_ENV": "AWS_Lambda_nodejs22.x"}
    if not _succeeds([node, str(script)], env=env, cwd=NPM_FOLDER):
        return None
    return find_browser()


def _succeeds(
    command: list[str], env: dict[str, str] | None = None, cwd: Path | None = None
) -> bool:
    print("+", " ".join(command), file=sys.stderr, flush=True)
    done = subprocess.run(
        command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        print(done.stdout.decode(errors="replace")[-1500:], file=sys.stderr)
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--install", action="store_true", help="get one when none is installed")
    args = parser.parse_args()
    found = find_browser()
    if found is None and args.install:
        found = install_with_apt() or install_with_npm()
    if found is None:
        print("No Chrome, Chromium or Edge found; set SA3_BROWSER to one.", file=sys.stderr)
        return 1
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
