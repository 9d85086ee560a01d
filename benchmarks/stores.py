"""A Redis and a Postgres of a benchmark's own; redis-server and Postgres must be installed."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.programs import free_port, wait_for_port

from .ground import NotAvailable


@dataclass
class Redis:
    """A Redis that keeps nothing, and that may be stopped."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """For REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        """As if its machine had gone."""
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server() -> Iterator[Redis]:
    """A Redis on a free port until the block ends. Raises NotAvailable where it is not installed."""
    if shutil.which("redis-server") is None:
        raise NotAvailable("no Redis on this machine")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        process = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.DEVNULL)
        server = Redis(port, process)
        try:
            wait_for_port(port)
            yield server
        finally:
            server.stop()


@dataclass
class Postgres:
    """A Postgres as it comes: every commit is on disk before it is answered."""

    port: int
    leader: int

    def database(self, name: str) -> str:
        """The URL of a new database."""
        asyncio.run(self._create(name))
        return self.url(name)

    def url(self, name: str) -> str:
        """The URL of a database that is there."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    async def _create(self, name: str) -> None:
        import asyncpg

        connection = await asyncpg.connect(self.url("postgres"))
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()


def _programs() -> Path:
    """Where initdb and postgres are: Debian keeps them off the PATH, a folder a version."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not versions:
        raise NotAvailable("no Postgres on this machine")
    return versions[-1].parent


def _owner(folder: str) -> dict[str, Any]:
    """Whom Postgres runs as, since it will not as root; the folder becomes theirs."""
    if os.geteuid() != 0:
        return {}
    try:
        owner = pwd.getpwnam("postgres")
    except KeyError as error:
        raise NotAvailable("Postgres will not run as root; no user postgres") from error
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A Postgres on a free port until the block ends. Raises NotAvailable where it is not installed."""
    programs, port = _programs(), free_port()
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("w+") as log:
        how: dict[str, Any] = {"cwd": folder, "stdout": log, "stderr": log, **_owner(folder)}
        data = f"{folder}/data"
        new = [str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"]
        subprocess.run(new, check=False, **how)
        settings = ["-h", "127.0.0.1", "-p", str(port), "-k", folder, "-N", "200"]
        serve = [str(programs / "postgres"), "-D", data, *settings]
        with subprocess.Popen(serve, **how) as process:
            server = Postgres(port, process.pid)
            try:
                if not asyncio.run(_answers(server, process)):
                    log.seek(0)
                    raise NotAvailable(f"Postgres did not start: {log.read().strip()[-300:]}")
                yield server
            finally:
                process.send_signal(signal.SIGINT)  # it ends its connections first


async def _answers(server: Postgres, process: "subprocess.Popen[bytes]") -> bool:
    """True as soon as it does; False if it ends, or takes too long."""
    import asyncpg

    for _ in range(200):
        if process.poll() is not None:
            return False
        try:
            connection = await asyncpg.connect(server.url("postgres"))
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.05)
        else:
            await connection.close()
            return True
    return False
