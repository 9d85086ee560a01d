"""The migration runner: numbered SQL, each file run once and in order, in one transaction, under a lock.

A folder holds `0001_first_schema.sql`, or `0001_first_schema.sqlite.sql` and `.postgres.sql` where the two differ.
A migration that needs Python is a transaction with the same number in `Migrations.steps`; it runs after the file.
`generated.sqlite.sql` and `generated.postgres.sql` create a new database in one step. scripts/schema.py generates both
from the migrations.

The version table has one row with the number of the last migration. It is the table that Alembic used in earlier
releases, so their databases are upgraded in place.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chat_broker_kit.database.sqlite_connections import drive
from chat_broker_kit.database.transactions import Query, Steps

Dialect = Literal["sqlite", "postgres"]

LOCK_SECONDS = 60
_FILE = re.compile(r"(?P<number>\d{4})_\w+(?:\.(?P<dialect>sqlite|postgres))?\.sql")
_TABLE_EXISTS = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1",
    "postgres": "SELECT 1 WHERE to_regclass($1) IS NOT NULL",
}


class SchemaTooNew(Exception):  # noqa: N818 - a finding about the database
    """A newer version of the program has upgraded the database. Only that version may open it."""


@dataclass(frozen=True, slots=True)
class Migrations:
    """The migrations of one program."""

    program: str
    table: str
    """The version table. Each program has its own, since two may share a database."""
    folder: Path
    lock: int
    """The key of the advisory lock on Postgres, used for nothing else."""
    steps: Mapping[str, Callable[[], Steps[None]]] = field(default_factory=dict)
    """Transactions by migration number."""
    version: str = field(init=False)
    """The newest one that the program knows."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", max(self._numbers()))

    @property
    def version_query(self) -> str:
        """Returns one row, or fails if the schema does not exist."""
        return f"SELECT version_num FROM {self.table}"  # noqa: S608 - a name of ours

    def is_current(self, version: str | None) -> bool:
        """Whether *version* (None: no schema) is the newest one. Raises SchemaTooNew if it is unknown."""
        if version == self.version:
            return True
        if version is None or version in self._numbers():
            return False
        raise SchemaTooNew(
            f"The database has schema {version}, and this version of {self.program} knows"
            f" {self.version}: a newer version has been here. Start that one."
        )

    def upgrade(self, dialect: Dialect) -> Steps[bool]:
        """A transaction that upgrades the schema, to be run under the lock. Returns whether it had to.

        Raises SchemaTooNew.
        """
        exists = yield Query(_TABLE_EXISTS[dialect], self.table)
        if not exists:
            yield from _run(self.generated_file(dialect))
            return True
        rows = yield Query(self.version_query)
        version = str(rows[0][0]) if rows else None
        if self.is_current(version):
            return False
        yield from self.run_all(dialect, after=version or "")
        return True

    def run_all(self, dialect: Dialect, *, after: str = "") -> Steps[None]:
        """A transaction that runs all migrations after the number *after*."""
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
        yield Query(f"INSERT INTO {self.table} VALUES ('{self.version}')")  # noqa: S608

    def generated_file(self, dialect: Dialect) -> Path:
        """The SQL file that creates a new database."""
        return self.folder / f"generated.{dialect}.sql"

    def _numbers(self) -> set[str]:
        matches = (_FILE.fullmatch(path.name) for path in self.folder.iterdir())
        return {match["number"] for match in matches if match is not None}

    def _files(self, dialect: Dialect) -> Iterator[tuple[str, Path]]:
        for path in sorted(self.folder.iterdir()):
            match = _FILE.fullmatch(path.name)
            if match is not None and match["dialect"] in {None, dialect}:
                yield match["number"], path


def migrate_sqlite(connection: sqlite3.Connection, migrations: Migrations) -> bool:
    """Upgrade the schema over *connection* (in autocommit) under SQLite's write lock. Returns whether it had to."""
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
    """Upgrade the schema at *url* under an advisory lock, for which replicas that start together wait.

    Returns whether it had to. The lock and its timeout end with the transaction, so a session of a pooler keeps neither.
    """
    # Imported here, since the driver takes long to load.
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
    """The statements of *sql*, each of which ends at a line end."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""


@contextmanager
def _lenient(connection: sqlite3.Connection) -> Iterator[None]:
    """Read invalid UTF-8 with replacement characters, so that a damaged row does not stop a migration."""
    strict: Any = connection.text_factory
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    try:
        yield
    finally:
        connection.text_factory = strict
