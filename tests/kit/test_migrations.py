"""The migration runner: in order, once, whole or not at all, for both databases."""

import asyncio
import sqlite3
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chat_broker.storage.migrations import MIGRATIONS as BROKER
from chat_broker_kit.database.migrations import (
    Dialect,
    Migrations,
    SchemaTooNew,
    migrate_postgres,
    migrate_sqlite,
    statements,
)
from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.database.migrations import MIGRATIONS as SERVER
from scripts.schema import postgres_schema, sqlite_schema
from tests.conftest import postgres_database

PROGRAMS = pytest.mark.parametrize("migrations", [BROKER, SERVER], ids=lambda each: each.program)


class Place:
    """A database that migrations are run on."""

    def __init__(self, file: Path, url: str | None) -> None:
        self.file = file
        self.url = url

    async def migrate(self, migrations: Migrations) -> bool:
        if self.url is not None:
            return await migrate_postgres(self.url, migrations)

        def run() -> bool:
            with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
                return migrate_sqlite(connection, migrations)

        return await asyncio.to_thread(run)

    async def run(self, sql: str) -> list[Any]:
        if self.url is None:
            with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
                return [tuple(row) for row in connection.execute(sql)]
        import asyncpg

        connection = await asyncpg.connect(self.url)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services("postgres"))])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param == "sqlite":
        yield Place(tmp_path / "x.db", None)
        return
    async with postgres_database() as url:
        yield Place(tmp_path / "x.db", url)


def written(folder: Path, **files: str) -> Migrations:
    """Migrations of a program that has but a table of words; *files* by name, `__` for a dot."""
    folder.mkdir(exist_ok=True)
    first = "CREATE TABLE words (at INTEGER NOT NULL, word TEXT NOT NULL);\n"
    (folder / "0001_words.sql").write_text(first)
    for name, text in files.items():
        (folder / f"{name.replace('__', '.').lstrip('_')}.sql").write_text(text)
    for dialect in ("sqlite", "postgres"):
        (folder / f"generated.{dialect}.sql").write_text(
            first + "CREATE TABLE word_schema (version_num VARCHAR(32) NOT NULL);\n"
            "INSERT INTO word_schema VALUES ('0001');\n"
        )
    return Migrations(program="word-server", table="word_schema", folder=folder, lock=123_456)


@PROGRAMS
def test_a_generated_file_is_what_the_migrations_make(migrations: Migrations) -> None:
    """Table by table and row by row, although no migration has run."""
    made = sqlite_schema(migrations.upgrade("sqlite"))
    assert made == sqlite_schema(migrations.run_all("sqlite"))
    assert "CREATE TABLE" in made


@PROGRAMS
@pytest.mark.services("postgres")
async def test_a_new_database_of_postgres_is_what_the_migrations_make(
    migrations: Migrations, postgres_url: str
) -> None:
    """As its catalogue shows it: columns, defaults, collations, constraints, indexes, rows."""
    import asyncpg

    connection = await asyncpg.connect(postgres_url)
    made = await postgres_schema(connection, migrations.upgrade("postgres"))
    assert made == await postgres_schema(connection, migrations.run_all("postgres"))
    assert "CREATE TABLE" in made
    await connection.close()


async def test_what_is_newer_runs_once_and_in_order(place: Place, tmp_path: Path) -> None:
    """A file for each database where they differ, then the transaction of the same number."""
    folder = tmp_path / "migrations"
    assert await place.migrate(written(folder))
    assert not await place.migrate(written(folder))

    def third() -> Steps[None]:
        rows = yield Query("SELECT count(*) FROM words")
        yield Query("INSERT INTO words VALUES ($1, $2)", 3 + rows[0][0], "counted")

    names = {
        "_0002_more__sqlite": "INSERT INTO words VALUES (2, 'sqlite');\n",
        "_0002_more__postgres": "INSERT INTO words VALUES (2, 'postgres');\n",
        "_0003_last": "-- A comment; with what ends a statement.\nINSERT INTO words\nVALUES (3, 'x;\ny');",
    }
    later = written(folder, **names)
    later = Migrations(
        program="word-server", table="word_schema", folder=folder, lock=1, steps={"0003": third}
    )
    assert await place.migrate(later)
    assert not await place.migrate(later)
    dialect: Dialect = "sqlite" if place.url is None else "postgres"
    assert await place.run("SELECT at, word FROM words ORDER BY at") == [
        (2, dialect),
        (3, "x;\ny"),
        (5, "counted"),
    ]
    assert await place.run("SELECT version_num FROM word_schema") == [("0003",)]


async def test_a_newer_schema_is_left_alone(place: Place, tmp_path: Path) -> None:
    """The sentence says both versions, and which program to start."""
    migrations = written(tmp_path / "migrations")
    await place.migrate(migrations)
    await place.run("UPDATE word_schema SET version_num = '0002'")
    with pytest.raises(SchemaTooNew) as caught:
        await place.migrate(migrations)
    assert str(caught.value) == (
        "The database has schema 0002, and this version of word-server knows 0001:"
        " a newer version has been here. Start that one."
    )
    assert await place.run("SELECT version_num FROM word_schema") == [("0002",)]


async def test_a_migration_that_fails_leaves_nothing_behind(place: Place, tmp_path: Path) -> None:
    """Nothing of those before it either; the next start does all of it."""
    folder = tmp_path / "migrations"
    await place.migrate(written(folder))
    good = "CREATE TABLE more (id INTEGER);\nINSERT INTO words VALUES (2, 'b');\n"
    with pytest.raises(Exception, match="nowhere"):
        await place.migrate(
            written(folder, _0002_more=good, _0003_bad="INSERT INTO nowhere VALUES (1);\n")
        )
    assert await place.run("SELECT * FROM words") == []
    assert await place.run("SELECT version_num FROM word_schema") == [("0001",)]
    assert await place.migrate(
        written(folder, _0002_more=good, _0003_bad="INSERT INTO more VALUES (1);\n")
    )
    assert await place.run("SELECT word FROM words, more") == [("b",)]


@pytest.mark.parametrize("old", [False, True], ids=["empty", "old"])
async def test_of_many_that_start_together_one_migrates(
    place: Place, tmp_path: Path, old: bool
) -> None:
    """The others wait, and find it done."""
    folder = tmp_path / "migrations"
    if old:
        await place.migrate(written(folder))
    migrations = written(folder, _0002_more="INSERT INTO words VALUES (2, 'b');\n")
    done = await asyncio.gather(*(place.migrate(migrations) for _ in range(6)))
    # What makes a new database here stops at 0001: whoever comes second brings it to 0002.
    assert done.count(True) == (1 if old else 2)
    assert await place.run("SELECT word FROM words") == [("b",)]


async def test_killed_in_the_middle_it_has_not_begun(place: Place, tmp_path: Path) -> None:
    """`kill -9` between two migrations: the next start finds the old version, and does it whole."""
    folder = tmp_path / "migrations"
    await place.migrate(written(folder))
    migrations = written(folder, _0002_more="INSERT INTO words VALUES (2, 'b');\n")
    program = textwrap.dedent("""
        import asyncio, pathlib, sqlite3, sys, time
        from chat_broker_kit.database.migrations import Migrations, migrate_postgres, migrate_sqlite
        def stop():
            print("in the middle", flush=True)
            time.sleep(60)
            yield
        def migrations(folder):
            return Migrations(program="word-server", table="word_schema", folder=pathlib.Path(folder), lock=123_456, steps={"0002": stop})
        if sys.argv[2].startswith("postgres"):
            asyncio.run(migrate_postgres(sys.argv[2], migrations(sys.argv[1])))
        else:
            migrate_sqlite(sqlite3.connect(sys.argv[2], isolation_level=None), migrations(sys.argv[1]))
    """)
    command = [sys.executable, "-c", program, str(folder), place.url or str(place.file)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"in the middle\n"
    assert await place.run("SELECT * FROM words") == []
    process.kill()
    await process.wait()
    assert await place.run("SELECT version_num FROM word_schema") == [("0001",)]
    assert await place.migrate(migrations)
    assert await place.run("SELECT word FROM words") == [("b",)]


def test_a_statement_ends_with_a_line() -> None:
    """Semicolons in texts and comments end nothing."""
    text = "-- one; two\nSELECT ';\n';\n\nSELECT 2; -- three;\nSELECT 3\n;\n-- the end\n"
    assert list(statements(text)) == [
        "-- one; two\nSELECT ';\n';",
        "SELECT 2; -- three;",
        "SELECT 3\n;",
    ]
