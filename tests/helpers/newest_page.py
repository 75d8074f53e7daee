"""Get one version of ComfyUI's page beside the one it pins. Standard library only.

    python tests/helpers/newest_page.py VERSION

Installs it from PyPI into .dev, where it is not there yet, and prints the folder that ComfyUI's
--front-end-root takes; exits with 1 where that fails.
"""

# ruff: noqa: T201 - a command, it prints

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DEV = Path(__file__).resolve().parents[2] / ".dev"
PACKAGE = "comfyui-frontend-package"


def main() -> int:
    (version,) = sys.argv[1:]
    target = DEV / f"frontend-{version}"
    static = target / PACKAGE.replace("-", "_") / "static"
    if not (static / "index.html").is_file():
        install = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        install += ["--no-deps", "--target", str(target), f"{PACKAGE}=={version}"]
        if subprocess.run(install, stdout=sys.stderr).returncode:
            return 1
    print(static)
    return 0


if __name__ == "__main__":
    sys.exit(main())
