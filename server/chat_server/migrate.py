"""Bringing the schema up to date, once, whoever starts first.

`HEAD` is compared with the database by one query, and a new SQLite file is made from `new.sql`,
which says what the migrations make of an empty one (scripts/schema.py writes it). So an ordinary
start imports neither Alembic nor SQLAlchemy, which would double its time and its memory.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_broker_kit.database.check import Schema
from chat_server.database import SchemaTooNew

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEAD = "0004"
VERSION_QUERY = "SELECT version_num FROM alembic_version"
SCHEMA = Schema("chat-server", "alembic_version", HEAD)
# Any number will do, if nobody else on the same Postgres database uses it.
ADVISORY_LOCK = 0x63686174
MIGRATIONS = Path(__file__).parent / "migrations"
NEW = MIGRATIONS / "new.sql"

# Alembic keeps the migration that runs in module globals: two threads would share a connection.
_one_at_a_time = threading.Lock()


def known(version: str | None) -> bool:
    """True if the schema is up to date, False if it is older; raises SchemaTooNew if newer."""
    if version == HEAD:
        return True
    if version is None or version in _revisions():
        return False
    raise SchemaTooNew(
        f"The database has schema {version}, and this version of chat-server knows {HEAD}:"
        " a newer version has been here. Start that one."
    )


def migrate_sqlite(raw: Any) -> None:
    """Migrate over *raw*, a sqlite3 connection in autocommit, while all others wait."""
    raw.execute("BEGIN IMMEDIATE")
    try:
        there = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
        if raw.execute(there).fetchone() is None:
            for statement in NEW.read_text().split(";\n"):
                raw.execute(statement)
        else:
            run_migrations(raw)
    except BaseException:
        if raw.in_transaction:
            raw.execute("ROLLBACK")
        raise
    if raw.in_transaction:
        raw.execute("COMMIT")


def run_migrations(raw: Any) -> None:
    """All that have not run yet, over a sqlite3 connection."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    with _one_at_a_time, _lenient(raw):
        engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
        with engine.connect() as connection:
            if not raw.in_transaction:
                # SQLAlchemy has rolled back when it was done looking at a connection that is new to it. Somebody
                # else may have migrated since; that is seen below.
                raw.execute("BEGIN IMMEDIATE")
            _upgrade(connection)
            connection.commit()


@contextmanager
def _lenient(raw: Any) -> Iterator[None]:
    """Text that is no UTF-8 is read with marks where letters were: one damaged row must not stop a migration."""
    strict, raw.text_factory = raw.text_factory, lambda text: text.decode("utf-8", "replace")
    try:
        yield
    finally:
        raw.text_factory = strict


def migrate_postgres(url: str) -> None:
    """Migrate the database at *url* under an advisory lock: replicas that start together wait.

    Runs a loop of its own, so it belongs in a thread.
    """
    with _one_at_a_time:
        asyncio.run(_migrate_postgres(url))


async def _migrate_postgres(url: str) -> None:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    from chat_broker_kit.database.postgres_connections import connect

    async def waiting() -> Any:
        connection = await connect(url, "chat-server", command_timeout=None)
        await connection.execute("SET lock_timeout = 60000")
        return connection

    engine = create_async_engine("postgresql+asyncpg://", async_creator=waiting, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": ADVISORY_LOCK})
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(connection: "Connection") -> None:
    from alembic import command
    from alembic.migration import MigrationContext

    known(MigrationContext.configure(connection).get_current_revision())
    with _config() as config:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _revisions() -> set[str]:
    from alembic.script import ScriptDirectory

    with _config() as config:
        return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}


@contextmanager
def _config() -> Iterator[Any]:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    yield config
