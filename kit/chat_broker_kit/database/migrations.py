"""The migration runner: numbered SQL, each file run once and in order, in one transaction, under a lock.

A folder holds `0001_first_schema.sql`, or `0001_first_schema.sqlite.sql` and `.postgres.sql` where the two differ.
What SQL alone cannot do is a transaction with the same number in `Migrations.steps`; it runs after the file.
`new.sqlite.sql` and `new.postgres.sql` say what all of them make of nothing (scripts/schema.py writes both), and
make a new database in one step.

The table of versions has one row with the number of the last migration. It is the one that Alembic kept
in releases before this runner, and their databases are brought up to date in place.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chat_broker_kit.database.check import Schema
from chat_broker_kit.database.sqlite_connections import drive
from chat_broker_kit.database.transactions import Query, Steps

Dialect = Literal["sqlite", "postgres"]

LOCK_SECONDS = 60
_FILE = re.compile(r"(?P<number>\d{4})_\w+(?:\.(?P<dialect>sqlite|postgres))?\.sql")
_TABLE_EXISTS = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1",
    "postgres": "SELECT 1 WHERE to_regclass($1) IS NOT NULL",
}


class SchemaTooNew(Exception):  # noqa: N818 - what the database is
    """The database was made by a newer version of this program, which alone may open it."""


@dataclass(frozen=True, slots=True)
class Migrations:
    """All migrations of one program."""

    program: str
    table: str
    """Where the version is. Each program has its own: two may share a database."""
    folder: Path
    lock: int
    """Of Postgres: any number that nobody else takes as an advisory lock."""
    steps: Mapping[str, Callable[[], Steps[None]]] = field(default_factory=dict)
    """By the number of their migration."""
    schema: Schema = field(init=False)

    def __post_init__(self) -> None:
        newest = max(self._numbers())
        object.__setattr__(self, "schema", Schema(self.program, self.table, newest))

    def is_current(self, version: str | None) -> bool:
        """Is *version* the newest one? False if it is older, or None; raises SchemaTooNew if it is newer."""
        if version == self.schema.version:
            return True
        if version is None or version in self._numbers():
            return False
        raise SchemaTooNew(
            f"The database has schema {version}, and this version of {self.program} knows"
            f" {self.schema.version}: a newer version has been here. Start that one."
        )

    def upgrade(self, dialect: Dialect) -> Steps[bool]:
        """A transaction that brings a database up to date, with the lock held; answers whether there was anything to do.

        Raises SchemaTooNew.
        """
        there = yield Query(_TABLE_EXISTS[dialect], self.table)
        if not there:
            yield from _run(self.new_file(dialect))
            return True
        rows = yield Query(self.schema.version_query)
        version = str(rows[0][0]) if rows else None
        if self.is_current(version):
            return False
        yield from self.run_all(dialect, after=version or "")
        return True

    def run_all(self, dialect: Dialect, *, after: str = "") -> Steps[None]:
        """A transaction that runs every migration later than *after*, one by one."""
        yield Query(
            f"CREATE TABLE IF NOT EXISTS {self.table} (version_num VARCHAR(32) NOT NULL,"
            f" CONSTRAINT {self.table}_pkc PRIMARY KEY (version_num))"
        )
        for number, file in self._files(dialect):
            if number > after:
                yield from _run(file)
                if number in self.steps:
                    yield from self.steps[number]()
        yield Query(f"DELETE FROM {self.table}")  # noqa: S608 - a name of ours
        yield Query(f"INSERT INTO {self.table} VALUES ('{self.schema.version}')")  # noqa: S608

    def new_file(self, dialect: Dialect) -> Path:
        """What makes a new database."""
        return self.folder / f"new.{dialect}.sql"

    def _numbers(self) -> set[str]:
        found = (_FILE.fullmatch(path.name) for path in self.folder.iterdir())
        return {match["number"] for match in found if match is not None}

    def _files(self, dialect: Dialect) -> Iterator[tuple[str, Path]]:
        for path in sorted(self.folder.iterdir()):
            match = _FILE.fullmatch(path.name)
            if match is not None and match["dialect"] in {None, dialect}:
                yield match["number"], path


def migrate_sqlite(connection: sqlite3.Connection, migrations: Migrations) -> bool:
    """Migrate over *connection*, in autocommit, while all others wait; answers whether there was anything to do."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        with _lenient(connection):
            done = drive(connection, migrations.upgrade("sqlite"))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return done


async def migrate_postgres(url: str, migrations: Migrations) -> bool:
    """Migrate the database at *url* under an advisory lock: replicas that start together wait.

    Answers whether there was anything to do. The lock and its time limit end with the transaction, so nothing is left
    in a session that a pooler gives to others.
    """
    # The driver takes long to load.
    from chat_broker_kit.database.postgres_connections import (
        CONNECT_SECONDS,
        connect,
        drive_postgres,
    )

    connection = await connect(url, migrations.program, command_timeout=None)
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            await connection.execute(f"SELECT pg_advisory_xact_lock({migrations.lock})")
            return await drive_postgres(connection, migrations.upgrade("postgres"), None)
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


def _run(file: Path) -> Steps[None]:
    for statement in statements(file.read_text()):
        yield Query(statement)


def statements(sql: str) -> Iterator[str]:
    """Each statement of *sql*. One ends where a line does."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""


@contextmanager
def _lenient(connection: sqlite3.Connection) -> Iterator[None]:
    """Text that is no UTF-8 is read with marks where letters were: one damaged row must not stop a migration."""
    strict: Any = connection.text_factory
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    try:
        yield
    finally:
        connection.text_factory = strict
