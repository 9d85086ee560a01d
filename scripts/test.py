"""Run the whole test suite: `make test`. Node.js packages of the end-to-end tests are installed if npm is here.

Arguments are passed on to pytest: `python scripts/test.py tests/sdk -k retry`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
E2E = ROOT / "tests" / "e2e"


def install_node_packages() -> None:
    """Bring tests/e2e/node_modules up to date with its lock file; a no-op when it is, or without npm."""
    npm = shutil.which("npm")
    lock = E2E / "package-lock.json"
    stamp = E2E / "node_modules" / ".package-lock.json"
    if npm is None or not lock.exists():
        return
    if stamp.exists() and stamp.stat().st_mtime >= lock.stat().st_mtime:
        return
    subprocess.run([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=E2E, check=True)
    stamp.touch()


if __name__ == "__main__":
    install_node_packages()
    arguments = sys.argv[1:] or ["-n", os.environ.get("TEST_WORKERS", "2"), "--dist=loadfile"]
    done = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, check=False)
    sys.exit(done.returncode)
