"""Resolve the dependencies of pyproject.toml into requirements/*.lock, with hashes and without addresses."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).with_name("uv")
COMMON = [
    "--universal",
    "--python-version=3.11",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-header",
    "--no-annotate",
    "--quiet",
]


def compile_lock(target: str, *arguments: str, given: str | None = None) -> None:
    """Write requirements/*target*; keeps the versions it already names unless UPGRADE is set."""
    upgrade = ["--upgrade"] if os.environ.get("UPGRADE") else []
    source = "pyproject.toml" if given is None else "-"
    command = [str(UV), "pip", "compile", source, *COMMON, *upgrade, *arguments]
    subprocess.run(
        [*command, "-o", f"requirements/{target}"], cwd=ROOT, check=True, input=given, text=True
    )


if __name__ == "__main__":
    compile_lock("run.lock")
    compile_lock("dev.lock", "--group=dev", "--constraints=requirements/run.lock")
    compile_lock("setup.lock", "--constraints=requirements/dev.lock", given="uv\n")
