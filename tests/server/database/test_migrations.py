"""Databases of earlier versions are brought up to date in place, with all that is in them."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from chat_broker_kit.database.migrations import statements
from chat_broker_kit.text import folding
from chat_broker_server.chat.roles import ROLES
from chat_broker_server.database.migrations import MIGRATIONS
from tests.conftest import postgres_database
from tests.contract.servers import ChatApi, in_room, of_user
from tests.server.opening import opened

USERS = "/api/v1/projects/{pid}/users"
ROOMS = "/api/v1/projects/{pid}/rooms"


class Old:
    """A database that the first version has left behind."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.file = folder / "chat.db"
        self.url = url

    async def make(self) -> None:
        dialect = "sqlite" if self.url is None else "postgres"
        first = MIGRATIONS.folder / f"0001_first_schema.{dialect}.sql"
        sql = [
            *statements(first.read_text()),
            "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)",
            "INSERT INTO alembic_version VALUES ('0001')",
        ]
        if self.url is None:
            with closing(sqlite3.connect(self.file, isolation_level=None)) as raw:
                for statement in sql:
                    raw.execute(statement)
            return
        import asyncpg

        connection = await asyncpg.connect(self.url)
        for statement in sql:
            await connection.execute(statement)
        await connection.close()

    async def insert(self, table: str, **values: Any) -> None:
        """One row, past the rules: this program no longer writes as that one did."""
        sql = f"INSERT INTO {table} ({', '.join(values)}) VALUES "
        if self.url is None:
            with closing(sqlite3.connect(self.file, isolation_level=None)) as raw:
                raw.execute(f"{sql} ({', '.join('?' * len(values))})", tuple(values.values()))
            return
        import asyncpg

        raw = await asyncpg.connect(self.url)
        places = ", ".join(f"${n}" for n in range(1, len(values) + 1))
        await raw.execute(f"{sql} ({places})", *values.values())
        await raw.close()

    async def user(self, user_id: str, username: str, **more: Any) -> None:
        values = {"external_user_id": f"ext-{user_id}", "created_at": "2026", "updated_at": "2026"}
        await self.insert(
            "users", project_id="default", id=user_id, username=username, **(values | more)
        )

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[ChatApi]:
        """The present version's server on it."""
        url = self.url or f"sqlite:///{self.file}"
        async with opened(folder, chat_database_url=url) as (_, api):
            yield api


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services("postgres"))])
async def old(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Old]:
    """An empty database; `make` gives it the schema of a version."""
    async with AsyncExitStack() as stack:
        url = None
        if request.param == "postgres":
            url = await stack.enter_async_context(postgres_database())
        yield Old(tmp_path, url)


async def test_names_of_before_are_found_in_any_case(old: Old, tmp_path: Path) -> None:
    """Those that were written when nothing but A to Z had a case; more of them than are changed at once."""
    await old.make()
    await old.insert("projects", id="default", name="default", created_at="2026", user_count=1202)
    await old.user("u1", "one", display_name="Ärger")
    await old.user("u2", "two", external_user_id="Straße|2")
    for number in range(1200):
        await old.user(f"v{number:04}", f"v{number}", display_name="Irma")
    await old.insert(
        "rooms",
        project_id="default",
        id="r1",
        name="Übersicht",
        description="Für ALLE",
        private=False,
        created_by="u1",
        created_at="2026",
        updated_at="2026",
    )
    async with old.opened(tmp_path / "now") as api:

        async def found(path: str, q: str, **more: int) -> list[str]:
            page = (await api.send("GET", path, params={"q": q, **more})).json()
            return [item["id"] for item in page["items"]]

        assert await found(USERS, "ärger") == ["u1"]
        assert await found(USERS, "STRASSE|2") == ["u2"]
        assert len(await found(USERS, "ırma", limit=200, page=6)) == 200
        assert await found(ROOMS, "übersicht") == ["r1"]
        assert await found(ROOMS, "FÜR alle") == ["r1"]


async def test_usernames_of_before_stay_and_new_ones_are_unique_in_any_case(
    old: Old, tmp_path: Path
) -> None:
    """Who had a name keeps it, can be changed, and is found; nobody else comes to have it, whoever leaves."""
    await old.make()
    await old.insert("projects", id="default", name="default", created_at="2026", user_count=5)
    for user_id, name in (
        ("1", "Alice"),
        ("2", "alice"),
        ("3", "ALICE"),
        ("4", "alice-x"),
        ("5", "Bob"),
    ):
        await old.user(user_id, name, created_at=f"202{user_id}")
    async with old.opened(tmp_path / "now") as api:

        async def patched(user_id: str, **changes: str) -> tuple[int, str]:
            answer = await api.send("PATCH", of_user({"id": user_id}), json=changes)
            return answer.status_code, answer.json().get("username") or answer.json()["code"]

        async def named(name: str) -> list[str]:
            page = (await api.send("GET", USERS, params={"username": name})).json()
            assert page["total"] == len(page["items"])
            return [item["username"] for item in page["items"]]

        async def create(name: str) -> int:
            body = {"username": name, "external_user_id": "new"}
            return (await api.send("POST", USERS, json=body)).status_code

        assert await named("aLiCe") == ["Alice", "alice", "ALICE"]
        for user_id, name in (("1", "Alice"), ("2", "alice"), ("3", "ALICE")):
            assert await patched(user_id, username=name, display_name="A") == (200, name)
        assert await patched("2", username="Alicia") == (200, "Alicia")
        assert await patched("2", username="alice") == (409, "username_taken")
        assert await patched("3", username="Alice") == (409, "username_taken")
        assert await patched("5", username="ALICE") == (409, "username_taken")
        assert await create("alice") == 409
        await api.send("DELETE", of_user({"id": "1"}))
        assert await create("alice") == 409, "the third is still there"
        await api.send("DELETE", of_user({"id": "3"}))
        assert await create("alice") == 201
        assert await create("bOB") == 409
        assert await named("ALICE") == ["alice"]


async def test_a_name_that_is_no_utf8_stops_no_migration(tmp_path: Path) -> None:
    """SQLite keeps whatever bytes somebody has put there."""
    old = Old(tmp_path, None)
    await old.make()
    await old.insert("projects", id="default", name="default", created_at="2026", user_count=2)
    await old.user("u1", "one")
    await old.user("u2", "two", display_name="Ärger")
    with closing(sqlite3.connect(old.file, isolation_level=None)) as raw:
        raw.execute("UPDATE users SET display_name = CAST(x'ff41' AS TEXT) WHERE id = 'u1'")
    async with old.opened(tmp_path / "now") as api:
        page = (await api.send("GET", USERS, params={"q": "ärger"})).json()
        assert [item["id"] for item in page["items"]] == ["u2"]


async def test_a_migration_that_fails_leaves_nothing_behind(
    old: Old, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it, or none: the next start finds what was there, and does it whole."""
    await old.make()
    await old.insert("projects", id="default", name="default", created_at="2026", user_count=1)
    await old.user("u1", "one", display_name="Ärger")
    with monkeypatch.context() as patched:
        patched.setattr(folding, "fold", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            async with old.opened(tmp_path / "failed"):
                pass
    async with old.opened(tmp_path / "now") as api:
        page = (await api.send("GET", USERS, params={"q": "ärger"})).json()
        assert [item["id"] for item in page["items"]] == ["u1"]


async def test_members_of_before_can_be_given_each_role(old: Old, tmp_path: Path) -> None:
    """The first version's database refused all but two roles."""
    await old.make()
    await old.insert("projects", id="default", name="default", created_at="2026", user_count=1)
    await old.user("u1", "one")
    room = {"id": "r1", "name": "r", "private": False, "created_by": "u1", "member_count": 1}
    await old.insert("rooms", project_id="default", created_at="2026", updated_at="2026", **room)
    await old.insert(
        "members", project_id="default", room_id="r1", user_id="u1", role="owner", joined_at="2026"
    )
    async with old.opened(tmp_path / "now") as api:
        other = await api.user("two")
        for role in ROLES:
            answer = await api.send(
                "PUT", f"{in_room({'id': 'r1'})}/members/{other['id']}", json={"role": role}
            )
            assert answer.json()["role"] == role
        members = (await api.send("GET", f"{in_room({'id': 'r1'})}/members")).json()["items"]
        assert {"u1": "owner", other["id"]: "guest"} == {
            member["user_id"]: member["role"] for member in members
        }
