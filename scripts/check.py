"""Run every static check and report all that failed, not only the first: `make check`."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTHON = sys.executable
SOURCES = ["app", "sdk", "server", "kit", "tests", "scripts", "examples", "benchmarks"]

STEPS: list[tuple[str, list[str]]] = [
    ("format", [f"{BIN}/ruff", "format", "--check", "--quiet", *SOURCES]),
    ("lint", [f"{BIN}/ruff", "check", "--quiet", *SOURCES]),
    ("length of functions", [PYTHON, "scripts/function_length.py"]),
    ("types", [f"{BIN}/mypy"]),
    ("import contracts", [f"{BIN}/lint-imports"]),
    (".env.example", [PYTHON, "scripts/env_example.py", "--check"]),
    ("schema of new databases", [PYTHON, "scripts/schema.py", "--check"]),
    ("generated sync SDK", [PYTHON, "scripts/unasync.py", "--check"]),
    ("Dockerfile", [f"{BIN}/hadolint", "Dockerfile"]),
    (
        "docker-compose.yml",
        [
            f"{BIN}/check-jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            "docker-compose.yml",
        ],
    ),
]


def run(name: str, command: list[str]) -> bool:
    """Run one step; print what it said only if it failed."""
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    print(f"{'ok  ' if done.returncode == 0 else 'FAIL'} {name} ({took:.1f} s)", flush=True)
    if done.returncode:
        print(done.stdout + done.stderr, flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    results = [run(name, command) for name, command in STEPS]
    sys.exit(0 if all(results) else 1)
