"""Brings a database to the present shape, once, whoever of several processes comes first.

The usual start asks for the revision and goes on. A new SQLite file is made from `new.sql`, which says what
the migrations make of an empty one (scripts/schema.py writes it). Alembic, which takes longer to load than
the whole broker, is left for databases that exist and are older, and for Postgres.
"""

import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from app.state.database import Database, Failures
from app.state.sqlite import SqliteDatabase
from chat_broker_kit.database.check import Schema

if TYPE_CHECKING:
    import sqlalchemy as sa

    from app.state.postgres import PostgresDatabase

MIGRATIONS = Path(__file__).with_name("migrations")
NEW = MIGRATIONS / "new.sql"
VERSIONS = "broker_schema"
"""Where the revision is kept. Not Alembic's usual name: the embedded server may live in the same database."""
_LOCK = 0x63686174_62726F6B  # any number that nobody else takes: "chatbrok"

# Alembic keeps the migration that runs in module globals: two threads would share a connection.
_one_at_a_time = threading.Lock()


class SchemaTooNew(Exception):  # noqa: N818 - what the database is
    """A newer broker has been here; this one would not understand what it finds."""


def head() -> str:
    """The newest revision this program knows: files are named `<revision>_<what it does>.py`."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


SCHEMA = Schema("chat-broker", VERSIONS, head())


async def migrate(database: Database) -> None:
    """Run what has not been run yet. Raises SchemaTooNew, StateUnavailable."""
    if await _revision(database) == head():
        return
    if isinstance(database, SqliteDatabase):
        await database.alone(_bring_up_to_date)
    else:
        await _migrate_postgres(database)  # type: ignore[arg-type]  # there are two kinds


async def _revision(database: Database) -> str | None:
    if not await database.has_table(VERSIONS):
        return None
    row = await database.one("SELECT version_num FROM broker_schema")
    revision = None if row is None else str(row["version_num"])
    if revision is not None and revision > head():
        raise SchemaTooNew(f"the database has the schema {revision}; this broker knows {head()}")
    return revision


def _bring_up_to_date(raw: sqlite3.Connection) -> None:
    there = "SELECT 1 FROM sqlite_master WHERE name = ?"
    if raw.execute(there, (VERSIONS,)).fetchone() is None:
        for statement in NEW.read_text().split(";\n"):
            raw.execute(statement)
    else:
        run_migrations(raw)


def run_migrations(raw: sqlite3.Connection) -> None:
    """All that have not run yet, over *raw*. Raises StateUnavailable."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
    try:
        with _one_at_a_time, engine.connect() as connection:
            if not raw.in_transaction:
                # SQLAlchemy has rolled back when it was done looking at a connection that is new to it. Somebody
                # else may have migrated since; that is seen below.
                raw.execute("BEGIN IMMEDIATE")
            _upgrade(connection)
            connection.commit()
    except SQLAlchemyError as error:
        raise Failures().unavailable(getattr(error, "orig", None) or error) from None


async def _migrate_postgres(database: "PostgresDatabase") -> None:
    import asyncpg
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    from chat_broker_kit.database.postgres_connections import connect

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: connect(database.url, "chat-broker", command_timeout=None),
        poolclass=NullPool,
    )
    try:
        async with engine.begin() as connection:
            # Held until the end of the transaction; on SQLite BEGIN IMMEDIATE does the same.
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.run_sync(_upgrade)
    except (SQLAlchemyError, asyncpg.PostgresError, OSError, TimeoutError) as error:
        raise Failures().unavailable(getattr(error, "orig", None) or error) from None
    finally:
        await engine.dispose()


def _upgrade(connection: "sa.Connection") -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
