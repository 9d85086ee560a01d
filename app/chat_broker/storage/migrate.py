"""Brings the broker's database to the present shape, once, whichever of several processes comes first."""

import sqlite3
from typing import TYPE_CHECKING

from chat_broker.storage.database import Database, Failures
from chat_broker.storage.migrations import MIGRATIONS
from chat_broker.storage.sqlite import SqliteDatabase
from chat_broker_kit.database.migrations import migrate_postgres
from chat_broker_kit.database.sqlite import drive

if TYPE_CHECKING:
    from chat_broker.storage.postgres import PostgresDatabase


async def migrate(database: Database) -> None:
    """Run what has not been run yet. Raises SchemaTooNew, StateUnavailable."""
    if MIGRATIONS.is_current(await _version(database)):
        return
    if isinstance(database, SqliteDatabase):
        await database.alone(_bring_up_to_date)
    else:
        await _migrate_postgres(database)  # type: ignore[arg-type]  # there are two kinds


async def _version(database: Database) -> str | None:
    if not await database.has_table(MIGRATIONS.table):
        return None
    row = await database.one(MIGRATIONS.schema.version_query)
    return None if row is None else str(row["version_num"])


def _bring_up_to_date(raw: sqlite3.Connection) -> None:
    drive(raw, MIGRATIONS.upgrade("sqlite"))


async def _migrate_postgres(database: "PostgresDatabase") -> None:
    import asyncpg

    try:
        await migrate_postgres(database.url, MIGRATIONS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise Failures().unavailable(error) from None
