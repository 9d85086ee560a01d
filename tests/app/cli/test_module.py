"""`python -m chat_broker`, and `python -m app` in a checkout: the `chat-broker` command, which serves if not told otherwise."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.programs import ROOT, clean_environment, free_port, running

MODULES = {"chat_broker": Path("/"), "app": ROOT}
"""Each module, with a folder from which it can be started."""


def run(module: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=MODULES[module],
        env=clean_environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("module", MODULES)
def test_it_takes_the_other_commands(module: str, tmp_path: Path) -> None:
    assert run(module, "--version").stdout.startswith("chat-broker ")
    settings = {"ENVIRONMENT": "development", "AUTH": "dev", "DATA_DIR": str(tmp_path)}
    shown = run(module, "check-config", **settings)
    assert (shown.returncode, "DATA_DIR" in shown.stdout) == (0, True), shown.stderr
    refused = run(module, "check-confg")
    assert refused.returncode == 2
    assert f"python -m {module}" in refused.stderr


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("arguments", [[], ["--development"], ["serve"]])
def test_without_a_command_it_serves(module: str, arguments: list[str]) -> None:
    """Bad settings are the first message of a start."""
    done = run(module, *arguments, PORT="none")
    assert (done.returncode, "PORT: " in done.stderr) == (2, True), done.stderr
    assert "cannot start" in done.stderr


@pytest.mark.parametrize("module", MODULES)
async def test_it_serves_until_it_is_stopped(module: str, tmp_path: Path) -> None:
    port = free_port()
    environment = {
        "ENVIRONMENT": "development", "AUTH": "dev", "PORT": str(port), "DATA_DIR": str(tmp_path),
    }  # fmt: skip
    # `running` starts everything in its data folder; what else is a checkout than one with this in it?
    if module == "app":
        (tmp_path / "app").symlink_to(ROOT / "app")
    command = [sys.executable, "-m", module]
    async with running(command, environment, port=port, data_dir=tmp_path) as program:
        assert await program.stop() == 0


def test_the_wheel_installs_no_package_app(tmp_path: Path) -> None:
    """The wheel installs no package `app`, because other projects use that name."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        roots = {name.partition("/")[0] for name in archive.namelist()}
    packages = {name for name in roots if not name.endswith(".dist-info")}
    assert packages == {"chat_broker", "chat_broker_kit", "chat_broker_sdk", "chat_broker_server"}
