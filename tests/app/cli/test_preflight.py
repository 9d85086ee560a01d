"""A failed check before the start prints one line (problem, place, remedy) and exits with 2."""

import asyncio
import json
import os
import shutil
import socket
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import POSTGRES
from tests.programs import (
    BIN,
    clean_environment,
    free_port,
    run_command,
    running_broker,
    running_server,
)

AT = POSTGRES.rpartition("@")[2].partition("/")[0]
DEVELOPMENT = {"ENVIRONMENT": "development", "AUTH": "dev"}
REFUSED = "postgresql://u:sesame@127.0.0.1:1/x"


@asynccontextmanager
async def role_without_rights(database: str) -> AsyncIterator[str]:
    """The URL of *database* for a role that may connect but not create anything."""
    admin = await asyncpg.connect(database)
    role = f"poor_{os.getpid()}"
    try:
        await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'sesame'")
        await admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        yield f"postgresql://{role}:sesame@{database.rpartition('@')[2]}"
    finally:
        await admin.execute(f"DROP ROLE {role}")
        await admin.close()


async def refusals(folder: Path, **settings: str) -> list[str]:
    """The output of `serve` of both programs, and of `doctor`, with *settings*."""
    environment = {
        **DEVELOPMENT,
        "DATA_DIR": str(folder),
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        **settings,
    }
    (broker, server, doctor) = await asyncio.gather(
        run_command("chat-broker", "serve", environment=environment),
        run_command("chat-server", "serve", environment=environment),
        run_command("chat-broker", "doctor", environment=environment),
    )
    assert [broker[:2], server[:2]] == [(2, ""), (2, "")], (broker, server)
    assert doctor[0] in (1, 2), doctor
    texts = [broker[2], server[2], " ".join((doctor[1] + doctor[2]).split())]
    for text in texts:
        assert "Traceback" not in text
        assert "sesame" not in text
        assert "running" not in text
    return texts


def both(url: str) -> Mapping[str, str]:
    """Settings that put the databases of both programs at *url*."""
    return {"DATABASE_URL": url, "CHAT_DATABASE_URL": url}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (REFUSED, ["nothing listens at postgresql://127.0.0.1:1/x", "start Postgres"]),
        ("postgresql://u:sesame@no-such-host.invalid/x", ["the host of postgresql://no-such-host.invalid/x is unknown", "correct the name"]),
        (f"postgresql://postgres@{AT}/no_such_db", ['database "no_such_db" does not exist', "createdb"]),
        (f"postgresql://nobody_here:sesame@{AT}/postgres", ["nobody_here", "correct user and password"]),
        (f"postgresql://postgres@{AT}/postgres?sslmode=verify-full", ["certificate", "sslrootcert"]),
        (f"postgresql://postgres@{AT}/postgres?options=-c%20search_path%3Dnone_such", ["search_path", "create one"]),
    ],
    ids=["down", "unknown host", "no database", "no role", "no certificate", "no schema"],
)  # fmt: skip
@pytest.mark.services("postgres")
async def test_postgres_that_cannot_be_opened(tmp_path: Path, url: str, says: list[str]) -> None:
    for text in await refusals(tmp_path, **both(url)):
        assert "DATABASE_URL" in text
        for part in says:
            assert part in text, text


@pytest.mark.services("postgres")
async def test_a_role_that_may_make_no_tables(tmp_path: Path, postgres_url: str) -> None:
    """Roles other than the owner may not create tables (Postgres 15 and later); the line holds the statement to run."""
    async with role_without_rights(postgres_url) as url:
        for text in await refusals(tmp_path, **both(url)):
            assert "GRANT CREATE ON SCHEMA public TO poor_" in text


@pytest.mark.services("postgres")
@pytest.mark.parametrize("table", ["broker_schema", "alembic_version"])
async def test_a_newer_schema_on_postgres(tmp_path: Path, postgres_url: str, table: str) -> None:
    """Of either program."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(
        f"CREATE TABLE {table} (version_num text); INSERT INTO {table} VALUES ('9999')"
    )
    await connection.close()
    environment = {**DEVELOPMENT, "DATA_DIR": str(tmp_path), **both(postgres_url)}
    code, _, errors = await run_command("chat-broker", "serve", environment=environment)
    assert (code, "has the schema 9999" in errors) == (2, True), errors


async def test_a_newer_schema_in_a_file(tmp_path: Path) -> None:
    for name, table in (("broker.db", "broker_schema"), ("chat.db", "alembic_version")):
        with closing(sqlite3.connect(tmp_path / name)) as raw:
            raw.execute(f"CREATE TABLE {table} (version_num text)")
            raw.execute(f"INSERT INTO {table} VALUES ('9999')")
            raw.commit()
    for text in await refusals(tmp_path):
        assert "has the schema 9999" in text
        assert "start the newer" in text


async def test_a_folder_that_is_none(tmp_path: Path) -> None:
    """DATA_DIR is a file, or lies in one; a database that is a folder, or something else."""
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        for text in await refusals(folder):
            assert f"DATA_DIR: {tmp_path}/file is a file, and a folder is needed" in text
    for name in ("broker.db", "chat.db"):
        (tmp_path / name).write_text(
            "not a database at all, but long enough to be read as one" * 20
        )
    for text in await refusals(tmp_path):
        assert (
            "is not a SQLite database; name another file" in text or "→ name another file" in text
        )
    (tmp_path / "folder").mkdir()
    for text in await refusals(tmp_path / "empty", **both(f"sqlite:///{tmp_path}/folder")):
        assert f"{tmp_path}/folder is a folder" in text


async def test_a_folder_of_another_user(tmp_path: Path) -> None:
    """The line names the folder and the user, also where the folder above cannot be read."""
    if os.geteuid() == 0 and (shutil.which("setpriv") is None):
        pytest.skip("root may write anywhere, and there is no setpriv to take that away")
    for name, mode in (("closed", 0o555), ("hidden", 0o000)):
        folder = tmp_path / name
        await asyncio.to_thread(folder.mkdir, mode)
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
        for inside in (folder, folder / "below"):
            environment = {**DEVELOPMENT, "DATA_DIR": str(inside), "PORT": str(free_port())}
            for command in (
                ["chat-broker", "serve"],
                ["chat-server", "serve"],
                ["chat-broker", "doctor"],
            ):
                said = await as_nobody_special(command, environment)
                assert said.count(f"{folder} may not be written to") == 1, said
                assert f"make the user {os.geteuid()} its owner" in said
                assert "Traceback" not in said


async def as_nobody_special(command: list[str], environment: Mapping[str, str]) -> str:
    """The output of *command* without root's permission to read every folder."""
    bounded = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown"]
    process = await asyncio.create_subprocess_exec(
        *(bounded if os.geteuid() == 0 else []), str(BIN / command[0]), *command[1:],
        env=clean_environment(environment), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    return (await process.communicate())[0].decode()


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Nothing may be written below /proc, root or not."""
    environment = {**DEVELOPMENT, "DATA_DIR": "/proc/none", "PORT": str(free_port())}
    for program in ("chat-broker", "chat-server"):
        code, _, errors = await run_command(program, "serve", environment=environment)
        assert (code, "DATA_DIR: /proc/none" in errors) == (2, True), errors
        assert "Traceback" not in errors


@pytest.mark.parametrize("setting", ["PORT", "ADMIN_PORT"])
async def test_a_port_that_is_taken(tmp_path: Path, setting: str) -> None:
    """The line names the port, the command that finds its process, and the setting. No database is created."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        settings = {"PORT": str(free_port()), setting: port}
        environment = {**DEVELOPMENT, "DATA_DIR": str(tmp_path), "HOST": "127.0.0.1", **settings}
        for program in ("chat-broker", "chat-server") if setting == "PORT" else ("chat-broker",):
            code, out, errors = await run_command(program, "serve", environment=environment)
            assert (code, out) == (2, ""), errors
            assert not await asyncio.to_thread(lambda: list(tmp_path.iterdir()))
            assert f"{setting}: {port} on 127.0.0.1 is taken by another program" in errors
            assert f"sport = :{port}" in errors
        code, out, _ = await run_command("chat-broker", "doctor", environment=environment)
        assert (code, f"{port} on 127.0.0.1 is taken" in out) == (1, True), out


@pytest.mark.parametrize("host", ["no-such-host.invalid", "198.51.100.7", "x86_64-conda-linux-gnu"])
async def test_a_host_that_is_not_ours(tmp_path: Path, host: str) -> None:
    """Unknown, another machine's, or what conda puts into the environment."""
    for text in await refusals(tmp_path, HOST=host):
        assert f"HOST: {host} is no address of this machine" in text
        assert "HOST=127.0.0.1" in text
        assert ("conda" in text.replace(host, "")) == ("conda" in host)


async def test_where_it_runs_is_said_once_it_does(tmp_path: Path) -> None:
    """Both programs log their URL once they run, and the databases that they created."""
    programs = ((running_broker, ["broker.db", "chat.db"]), (running_server, []))
    for program, made in programs:
        async with program(tmp_path) as running:
            at = f"http://127.0.0.1:{running.port}"
            while "serve.running" not in running.log():  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.02)
            lines = [json.loads(line) for line in running.log().splitlines() if line[:1] == "{"]
        events = [line["event"] for line in lines]
        new = [line["at"] for line in lines if line["event"] == "database.new"]
        assert new == [f"{tmp_path}/{name}" for name in made]
        assert events.index("Application startup complete.") < events.index("serve.running")
        assert lines[events.index("serve.running")]["at"] == [at]


@pytest.mark.services("postgres")
async def test_several_workers_are_refused_once(tmp_path: Path) -> None:
    """The supervisor checks before it starts a worker."""
    environment = {
        **DEVELOPMENT,
        "WORKERS": "2",
        "REDIS_URL": "redis://127.0.0.1:1",
        "DATA_DIR": str(tmp_path),
        **both(REFUSED),
    }
    code, out, errors = await run_command("chat-broker", "serve", environment=environment)
    assert (code, out) == (2, "")
    assert errors.count("nothing listens at") == 2
    assert "Traceback" not in errors
