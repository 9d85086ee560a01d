"""A typed program passes the strict type checkers, and a wrong one does not."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "tests/sdk/typed_sample.py"


def test_mypy_strict_passes_and_finds_each_mistake() -> None:
    """Unused ignores are errors in strict mode, so each ignored line is a mistake that was found."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(SAMPLE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_strict_passes(tmp_path: Path) -> None:
    checker = str(Path(sys.executable).with_name("basedpyright"))
    settings = {
        "include": [str(SAMPLE)],
        "extraPaths": [str(ROOT / "sdk")],
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": False,
        "enableTypeIgnoreComments": False,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [checker, "-p", str(tmp_path), "--pythonpath", sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
