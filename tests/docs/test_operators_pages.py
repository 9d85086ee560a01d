"""Runs the commands of the operators' pages: backup, restore, and an install without Docker."""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import httpx
import pytest

from tests.programs import (
    BIN,
    ROOT,
    clean_environment,
    free_port,
    run_command,
    running,
    running_broker,
)

UNIT = ROOT / "deploy" / "systemd" / "chat-broker.service"


def shell_blocks(page: str, heading: str) -> list[str]:
    """The blocks of commands below one heading."""
    text = (ROOT / "docs" / page).read_text().partition(f"\n## {heading}\n")[2]
    assert text, f"{page} has no heading {heading}"
    return re.findall(r"```sh\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)


def run_in(folder: Path, block: str, **environment: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (block, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the page uses sqlite3")
async def test_a_backup_is_restored_over_databases_that_were_killed(tmp_path: Path) -> None:
    """A restore has the state of the backup, not of an old -wal, and only the owner can read the files."""
    back_up, restore = shell_blocks("scaling.md", "Backups")
    data = tmp_path / "data"
    data.mkdir()
    before_umask = os.umask(0o022)
    try:
        async with running_broker(data) as broker, alice_of(broker.url) as alice:
            room = (await alice.post("/chat/rooms", json={"name": "General"})).json()["id"]
            path = f"/chat/rooms/{room}/messages"
            await alice.post(path, json={"content": "before"})
            run_in(tmp_path, back_up)
            for number in range(20):
                await alice.post(path, json={"content": f"after {number}"})
            async with alice_of(broker.url, "bob") as bob:
                await bob.get("/chat/me")
            await broker.kill()
        assert (data / "chat.db-wal").stat().st_size > 0
        run_in(tmp_path, restore)
    finally:
        os.umask(before_umask)
    assert modes(tmp_path) == {0o600}
    async with running_broker(data) as broker, alice_of(broker.url) as alice:
        page = (await alice.get(path)).json()
        assert [message["content"] for message in page["items"]] == ["before"]
        assert (await alice.post(path, json={"content": "and on"})).json()["seq"] == 2


def modes(folder: Path) -> set[int]:
    """Modes of the copies and of the restored files."""
    files = [*folder.glob("*.bak"), *(folder / "data").iterdir()]
    assert len(files) == 4
    return {file.stat().st_mode & 0o777 for file in files}


def alice_of(url: str, name: str = "alice") -> httpx.AsyncClient:
    """A client that is signed in to the restored broker."""
    answer = httpx.post(f"{url}/dev/login", json={"username": name}, trust_env=False)
    headers = {"authorization": f"Bearer {answer.json()['token']}"}
    return httpx.AsyncClient(base_url=url, headers=headers, trust_env=False)


def elsewhere(text: str, folder: Path) -> str:
    """The commands with all paths below *folder*."""
    for place in (
        "/opt/chat-broker",
        "/etc/chat-broker",
        "/etc/systemd/system",
        "/var/lib/chat-broker",
    ):
        text = text.replace(place, f"{folder}{place}")
    return text


def installed(folder: Path) -> None:
    """Install below *folder*, up to the start. Libraries come from this environment instead of the network."""
    (program,) = shell_blocks("install.md", "The program")
    settings, check = shell_blocks("install.md", "Settings")
    service, *_ = shell_blocks("install.md", "The service")
    (folder / "etc/systemd/system").mkdir(parents=True)
    make, lock, install = program.strip().splitlines()
    run_in(ROOT, elsewhere(make, folder))
    assert lock.endswith("-r requirements/run.lock")
    assert (ROOT / "requirements/run.lock").exists()
    libraries = next((folder / "opt/chat-broker/venv").glob("lib/python*/site-packages"))
    (libraries / "these.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run_in(ROOT, elsewhere(install, folder), PIP_NO_BUILD_ISOLATION="false", PIP_NO_INDEX="1")
    run_in(folder, elsewhere(settings, folder))
    key = folder / "etc/chat-broker/secrets/admin_key"
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    run_in(folder, elsewhere(check, folder))
    copy, *rest = service.strip().splitlines()
    run_in(ROOT, elsewhere(copy, folder))
    assert [line.split()[0] for line in rest] == ["systemctl", "systemctl", "curl"]
    (folder / "var/lib/chat-broker").mkdir(parents=True)


def of_the_unit(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of the installed unit."""
    unit = elsewhere((folder / "etc/systemd/system/chat-broker.service").read_text(), folder)
    given = dict(re.findall(r"^(\w+)=(.+)$", unit, re.MULTILINE))
    pairs = [*given["Environment"].split(), *Path(given["EnvironmentFile"]).read_text().split()]
    environment = dict(pair.split("=", 1) for pair in pairs)
    (credential,) = re.findall(r"^LoadCredential=(\w+):(.+)$", unit, re.MULTILINE)
    assert credential == ("admin_key", f"{folder}/etc/chat-broker/secrets/admin_key")
    assert environment["SECRETS_DIR"] == "%d"  # where systemd puts it
    assert environment["DATA_DIR"] == f"{folder}/var/lib/{given['StateDirectory']}"
    assert float(given["TimeoutStopSec"]) >= float(environment["DRAIN_SECONDS"]) + 35
    environment["SECRETS_DIR"] = f"{folder}/etc/chat-broker/secrets"
    return shlex.split(given["ExecStart"]), environment


@pytest.mark.timeout(300)
async def test_an_install_without_docker_as_the_page_has_it(tmp_path: Path) -> None:
    """The program in a venv of its own, settings, check-config, and what the unit starts. systemd itself is not here."""
    await asyncio.to_thread(installed, tmp_path)
    command, environment = of_the_unit(tmp_path)
    port, state = free_port(), tmp_path / "var/lib/chat-broker"
    environment["PORT"] = str(port)
    async with (
        running(command, environment, port=port, data_dir=state) as broker,
        httpx.AsyncClient(base_url=broker.url, trust_env=False) as http,
    ):
        key = (tmp_path / "etc/chat-broker/secrets/admin_key").read_text().strip()
        assert (await http.get("/readyz")).status_code == 200
        headers = {"authorization": f"Bearer {key}"}
        told = (await http.get("/admin/status", headers=headers)).json()
        assert told["modes"]["auth"] == ["jwt"]
        assert (state / "broker.db").exists()
        assert (state / "chat.db").exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="of systemd")
def test_the_unit_is_what_systemd_understands_and_closed(tmp_path: Path) -> None:
    """No unknown line; exposure at most 2.0 of 10."""
    program = tmp_path / "chat-broker"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "chat-broker.service"
    unit.write_text(UNIT.read_text().replace("/opt/chat-broker/venv/bin/chat-broker", str(program)))
    for command in (
        ["verify", "--man=no", str(unit)],
        ["security", "--offline=true", "--threshold=20", str(unit)],
    ):
        done = subprocess.run(
            ["systemd-analyze", *command], capture_output=True, text=True, check=False
        )
        ours = [line for line in done.stderr.splitlines() if "chat-broker" in line]
        assert (done.returncode, ours) == (0, []), done.stderr


async def test_the_broker_runs_without_memory_that_is_writable_and_executable(
    tmp_path: Path,
) -> None:
    """As `MemoryDenyWriteExecute` has it; where the kernel can be asked for that (Linux 6.3)."""
    deny = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) and sys.exit(9); os.execv(sys.argv[1], sys.argv[1:])"
    assert "MemoryDenyWriteExecute=yes" in UNIT.read_text()
    probe = await asyncio.create_subprocess_exec(sys.executable, "-c", deny, "/bin/true")
    if await probe.wait() == 9:
        pytest.skip("this kernel does not know PR_SET_MDWE")
    port = free_port()
    command = [sys.executable, "-c", deny, str(BIN / "chat-broker"), "serve"]
    environment = {"ENVIRONMENT": "development", "AUTH": "dev", "PORT": str(port)}
    async with (
        running(command, environment, port=port, data_dir=tmp_path) as broker,
        alice_of(broker.url) as alice,
    ):
        assert (await alice.post("/chat/token")).status_code == 200


async def test_what_the_pages_of_operators_name_is_there() -> None:
    """Files, and headings of other pages."""
    for page in ("install.md", "scaling.md", "operations.md"):
        text = (ROOT / "docs" / page).read_text()
        for target in re.findall(r"\]\(([^)#:]+)", text):
            assert (ROOT / "docs" / target).exists(), (page, target)
    code, out, _ = await run_command("chat-broker", "--help", environment={})
    assert code == 0
    assert "check-config" in out
