"""The SDK is a distribution of its own: small, typed, and working once installed."""

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

CALL = """
import sys, chat_broker_sdk
from chat_broker_sdk.testing import FakeChatApi
assert "site-packages" not in chat_broker_sdk.__file__ and "{root}" not in chat_broker_sdk.__file__, chat_broker_sdk.__file__
fake = FakeChatApi()
with fake.sync_client() as client:
    print(client.users.create(username="ann", external_user_id="1").username)
unwanted = {{"fastapi", "starlette", "asyncpg", "pydantic", "chat_broker_server", "app"}} & set(sys.modules)
assert not unwanted, unwanted
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and an sdist, built from sdk/ alone by its own build backend."""
    folder = tmp_path_factory.mktemp("dist")
    for kind in ("wheel", "sdist"):
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
            cwd=ROOT / "sdk",
            check=True,
            capture_output=True,
        )
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    wheel = next(built.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert "chat_broker_sdk/py.typed" in names
    assert "chat_broker_sdk/_sync/client.py" in names
    assert {name.partition("/")[0] for name in names} == {
        "chat_broker_sdk",
        f"chat_broker_sdk-{importlib.import_module('chat_broker_sdk').__version__}.dist-info",
    }
    for heavy in ("fastapi", "starlette", "asyncpg", "pydantic", "uvicorn"):
        assert heavy not in metadata.lower().partition("\n\n")[0]


def test_the_sdist_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        # Python 3.11 has filters since 3.11.4, and 3.12 warns of their absence.
        how: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path, **how)  # noqa: S202 - we have packed it ourselves
    source = next(tmp_path.iterdir())
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again")],
        cwd=source,
        check=True,
        capture_output=True,
    )
    again, first = next((tmp_path / "again").glob("*.whl")), next(built.glob("*.whl"))
    with zipfile.ZipFile(again) as one, zipfile.ZipFile(first) as two:
        assert sorted(one.namelist()) == sorted(two.namelist())


def test_an_installed_wheel_makes_a_call_and_brings_its_command(
    built: Path, tmp_path: Path
) -> None:
    """Installed into a folder of its own; the libraries it names come from this environment."""
    subprocess.run(
        [
            str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--offline", "--no-deps",
            "--python", sys.executable, "--target", str(tmp_path / "installed"),
            str(next(built.glob("*.whl"))),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-c", CALL.format(root=ROOT)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ann"
    command = subprocess.run(
        [str(tmp_path / "installed" / "bin" / "chat-broker-sdk"), "conformance", "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert command.returncode == 0, command.stderr
    assert "--base-url" in command.stdout


def test_its_requirements_are_a_part_of_the_programs() -> None:
    """What the SDK needs alone, with the same floors, is in the root's list: one lock serves both."""
    own = tomllib.loads((ROOT / "sdk/pyproject.toml").read_text())["project"]
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {*own["dependencies"], *own["optional-dependencies"]["aiohttp"]}
    assert needed <= set(root["dependencies"])
    assert own["scripts"].items() <= root["scripts"].items()
    assert own["requires-python"] == root["requires-python"]


def test_the_synchronous_half_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/unasync.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
