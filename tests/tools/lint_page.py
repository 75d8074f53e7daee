"""Lint and type check of the page's scripts: `python -m tests.tools.lint_page`.

Installs the tools that package-lock.json pins into node_modules, where npm is there. Without npm
it says so; only a machine that calls itself CI must have it.
"""

# ruff: noqa: T201 - a command, it prints

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

from tests.helpers.support import ROOT

CHECKS = (["eslint", "js", "tests/js"], ["tsc"])


def tools_are_there() -> bool:
    """Whether node_modules holds the versions that package.json pins."""
    wanted = json.loads((ROOT / "package.json").read_text("utf-8"))["devDependencies"]
    for name, version in wanted.items():
        path = ROOT / "node_modules" / name / "package.json"
        if not path.is_file() or json.loads(path.read_text("utf-8"))["version"] != version:
            return False
    return True


def main() -> int:
    npm = shutil.which("npm")
    if npm is None:
        print("js/: not checked, there is no npm on this machine", file=sys.stderr)
        return int(os.environ.get("CI", "").lower() == "true")
    if not tools_are_there():
        install = [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        if subprocess.run(install, cwd=ROOT).returncode:
            return 1
    run = [npm, "exec", "--offline", "--"]
    return max(subprocess.run([*run, *check], cwd=ROOT).returncode for check in CHECKS)


if __name__ == "__main__":
    sys.exit(main())
