"""The databases of the first release are brought up to date in place, and chat goes on in them.

The dumps hold what that release had written: four users, of whom one is banned and two have names that differ in case
alone, a room with four messages, one of them deleted, an admin key, and an audit log.
"""

import json
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import httpx
import pytest

from chat_broker.admin.audit_log import verify_chain
from chat_broker.storage.migrations import MIGRATIONS as BROKER
from chat_broker_kit.database.migrations import Dialect, Migrations, statements
from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.database.migrations import MIGRATIONS as SERVER
from scripts.schema import postgres_schema, sqlite_schema
from tests.conftest import postgres_database
from tests.programs import running_broker

DUMPS = Path(__file__).parent / "fixtures" / "databases"
ADMIN_KEY = "admin-4f1d9c0e7b6a5d3c2b1a0f9e8d7c"
PROGRAMS = pytest.mark.parametrize(
    ("dump", "migrations"),
    [("broker_0002", BROKER), ("chat_0001", SERVER)],
    ids=["broker", "server"],
)


async def loaded(name: str, url: str | None, folder: Path) -> str:
    """The URL of a database with the dump *name* in it."""
    if url is None:
        file = folder / f"{name.partition('_')[0]}.db"
        with closing(sqlite3.connect(file)) as connection:
            connection.executescript((DUMPS / f"{name}.sqlite.sql").read_text())
        return f"sqlite:///{file}"
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute((DUMPS / f"{name}.postgres.sql").read_text())
    await connection.close()
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services("postgres"))])
async def old(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The URLs of both databases, by setting."""
    async with AsyncExitStack() as stack:
        urls = {}
        for setting, dump in (("DATABASE_URL", "broker_0002"), ("CHAT_DATABASE_URL", "chat_0001")):
            url = None
            if request.param == "postgres":
                url = await stack.enter_async_context(postgres_database())
            urls[setting] = await loaded(dump, url, tmp_path)
        yield urls


async def test_chat_goes_on_in_the_databases_of_the_first_release(
    old: dict[str, str], tmp_path: Path
) -> None:
    """Rooms, messages, bans, admin keys and the audit log are there, and can be added to; also after another start."""
    for start in (1, 2):
        async with (
            running_broker(tmp_path, ADMIN_KEY=ADMIN_KEY, **old) as broker,
            httpx.AsyncClient(base_url=broker.url, trust_env=False) as http,
        ):

            async def signed_in(name: str) -> dict[str, str]:
                answer = await http.post("/dev/login", json={"username": name})
                http.cookies.clear()
                return {"authorization": f"Bearer {answer.json()['token']}"}

            alice, admin = await signed_in("alice"), {"authorization": f"Bearer {ADMIN_KEY}"}
            (room,) = (await http.get("/chat/rooms", headers=alice)).json()["items"]
            assert room["name"] == "Übersicht"
            messages = f"/chat/rooms/{room['id']}/messages"
            said = await http.post(messages, headers=alice, json={"content": f"start {start}"})
            assert said.status_code == 201
            assert said.json()["seq"] == 4 + start
            page = (await http.get(messages, headers=alice)).json()["items"]
            assert [item["content"] for item in page][-4:] == [
                "message 4",
                "",
                "message 2",
                "message 1",
            ]
            banned = await http.get("/chat/rooms", headers=await signed_in("mallory"))
            assert banned.status_code == 403
            found = await http.get("/admin/users?q=ärger", headers=admin)
            assert [user["username"] for user in found.json()["items"]] == ["alice"]
            twins = await http.get("/admin/users?q=alice", headers=admin)
            assert sorted(user["username"] for user in twins.json()["items"]) == ["ALICE", "alice"]
            (key,) = (await http.get("/admin/keys", headers=admin)).json()["items"]
            assert key["name"] == "support"
            accept = {"accept": "application/x-ndjson"}
            lines = (await http.get("/admin/audit", headers=admin | accept)).text.splitlines()
            verdict = verify_chain(json.loads(line) for line in lines)
            assert verdict.sound
            assert verdict.checked > 7
            assert ("database.migrated" in broker.log()) == (start == 1)


def upgraded(dump: str, migrations: Migrations, dialect: Dialect) -> Steps[None]:
    """A transaction that puts a dump into an empty database and brings it up to date."""
    text = (DUMPS / f"{dump}.{dialect}.sql").read_text().replace("public.", "")
    for statement in statements(text):
        yield Query(statement)
    assert (yield from migrations.upgrade(dialect))


def shape(schema: str) -> list[str]:
    """The statements of *schema* that make tables and indexes, however they are written."""
    text = re.sub(r"^INSERT INTO .*\n", "", re.sub(r"--.*", "", schema), flags=re.MULTILINE)
    return sorted(" ".join(re.sub(r"([(),;])", r" \1 ", one).split()) for one in statements(text))


@PROGRAMS
def test_an_old_file_of_sqlite_gets_the_shape_of_a_new_one(
    dump: str, migrations: Migrations
) -> None:
    """Whoever has upgraded has the same tables and indexes as whoever begins today."""
    new = shape(sqlite_schema(migrations.upgrade("sqlite")))
    assert shape(sqlite_schema(upgraded(dump, migrations, "sqlite"))) == new


@PROGRAMS
@pytest.mark.services("postgres")
async def test_an_old_database_of_postgres_gets_the_shape_of_a_new_one(
    dump: str, migrations: Migrations, postgres_url: str
) -> None:
    """As on SQLite."""
    import asyncpg

    connection = await asyncpg.connect(postgres_url)
    new = shape(await postgres_schema(connection, migrations.upgrade("postgres")))
    old = shape(await postgres_schema(connection, upgraded(dump, migrations, "postgres")))
    await connection.close()
    assert old == new
