"""What every test can ask for: outside services, found or named as missing."""

import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.programs import free_port, wait_for_port

E2E = Path(__file__).parent / "e2e"
POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")


PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _program(*names: str) -> Callable[[], bool]:
    return lambda: any(shutil.which(name) for name in names)


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


SERVICES: dict[str, Callable[[], bool]] = {
    "postgres": lambda: _answers("127.0.0.1", 5432),
    "pgbouncer": lambda: PGBOUNCER is not None,
    "redis": _program("redis-server"),
    "node": lambda: bool(shutil.which("node")) and (E2E / "node_modules").is_dir(),
    "npm": _program("npm"),
    "nginx": _program("nginx"),
    "chromium": _program("chromium", "chromium-browser"),
}


@cache
def _is_there(service: str) -> bool:
    return SERVICES[service]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose services are missing, with the reason."""
    for mark in item.iter_markers("services"):
        missing = [name for name in mark.args if not _is_there(name)]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}, which this machine does not have running")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under REQUIRE_SERVICES=1 a skip is a failure: CI has everything."""
    report = yield
    if (
        os.environ.get("REQUIRE_SERVICES") == "1"
        and report.skipped
        and not hasattr(report, "wasxfail")
    ):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"REQUIRE_SERVICES=1 allows no skip, and {item.nodeid} was: {reason}"
    return report


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def postgres_database() -> AsyncIterator[str]:
    """The URL of a fresh Postgres database, dropped afterwards."""
    import asyncpg

    name = f"chat_test_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(POSTGRES)
    try:
        await admin.execute(f'CREATE DATABASE "{name}"')
        try:
            yield POSTGRES.rpartition("/")[0] + f"/{name}"
        finally:
            await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await admin.close()


@pytest.fixture
async def postgres_url() -> AsyncIterator[str]:
    """A fresh Postgres database, dropped afterwards. Mark the test `services("postgres")`."""
    async with postgres_database() as url:
        yield url


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis server of the test's own, so that it may be stopped. Mark the test `services("redis")`."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir"]
    with subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.DEVNULL) as server:
        wait_for_port(port)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=False
    )
    if not done or done.returncode:
        pytest.skip("cannot mount a small file system here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
