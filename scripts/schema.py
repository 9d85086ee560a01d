"""Writes what the migrations of both programs make of an empty database; `--check` fails if a file is not that.

A new database is made from these files in one step. The files of Postgres need a server, at TEST_POSTGRES_URL or on
this machine; without one they are left as they are.
"""

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg

from chat_broker.storage.migrations import MIGRATIONS as BROKER
from chat_broker_kit.database.migrations import Migrations
from chat_broker_kit.database.postgres_connections import drive_postgres
from chat_broker_kit.database.sqlite_connections import drive
from chat_broker_kit.database.transactions import Steps
from chat_broker_server.database.migrations import MIGRATIONS as SERVER

POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
SCRATCH = "scratch_of_migrations"

_COLUMNS = """
SELECT quote_ident(c.relname) AS table, quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
    || CASE WHEN a.attcollation <> t.typcollation THEN ' COLLATE ' || quote_ident(l.collname) ELSE '' END
    || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')
    || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END AS text
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = $1::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname, a.attnum
"""
_CONSTRAINTS = """
SELECT quote_ident(c.relname) AS table, n.contype = 'f' AS foreign,
    'CONSTRAINT ' || quote_ident(n.conname) || ' ' || pg_get_constraintdef(n.oid, true) AS text
FROM pg_constraint n JOIN pg_class c ON c.oid = n.conrelid
WHERE c.relnamespace = $1::regnamespace AND n.contype IN ('p', 'u', 'c', 'f')
ORDER BY c.relname, n.contype <> 'p', n.conname
"""
_INDEXES = """
SELECT pg_get_indexdef(i.indexrelid, 0, true) AS text
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = $1::regnamespace
    AND NOT EXISTS (SELECT 1 FROM pg_constraint n WHERE n.conindid = c.oid AND n.contype IN ('p', 'u'))
ORDER BY c.relname
"""


def sqlite_schema(steps: Steps[Any]) -> str:
    """Every statement that makes a database of SQLite as *steps* leave it."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        drive(connection, steps)
        statements = [
            statement
            for statement in connection.iterdump()
            if statement not in {"BEGIN TRANSACTION;", "COMMIT;"}
        ]
    return "\n".join(statements) + "\n"


async def postgres_schema(connection: Any, steps: Steps[Any]) -> str:
    """Every statement that makes a database of Postgres as *steps* leave it; nothing of it stays behind *connection*."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"CREATE SCHEMA {SCRATCH}")
        await connection.execute(f"SET LOCAL search_path TO {SCRATCH}")
        await drive_postgres(connection, steps, None)
        return "\n".join([text async for text in _of_postgres(connection)]) + "\n"
    finally:
        await transaction.rollback()


async def _of_postgres(connection: Any) -> AsyncIterator[str]:
    columns = await connection.fetch(_COLUMNS, SCRATCH)
    constraints = await connection.fetch(_CONSTRAINTS, SCRATCH)
    tables = list(dict.fromkeys(row["table"] for row in columns))
    for table in tables:
        parts = [row["text"] for row in columns if row["table"] == table]
        parts += [
            row["text"] for row in constraints if row["table"] == table and not row["foreign"]
        ]
        yield f"CREATE TABLE {table} (\n    " + ",\n    ".join(parts) + "\n);"
        names = [part.split(" ")[0] for part in parts if not part.startswith("CONSTRAINT ")]
        literals = " || ', ' || ".join(f"quote_nullable({name}::text)" for name in names)
        for row in await connection.fetch(f"SELECT {literals} AS text FROM {table}"):  # noqa: S608 - from the catalogue
            yield f"INSERT INTO {table} VALUES ({row['text']});"  # noqa: S608 - likewise
    for row in constraints:
        if row["foreign"]:
            yield f"ALTER TABLE {row['table']} ADD {row['text']};"
    for row in await connection.fetch(_INDEXES, SCRATCH):
        yield f"{row['text']};"


async def _connected() -> Any:
    """A connection to Postgres; None if there is no server."""
    try:
        return await asyncpg.connect(POSTGRES, timeout=2)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return None


async def write(migrations: Migrations) -> None:
    """Write the files of *migrations*."""
    made = {"sqlite": sqlite_schema(migrations.run_all("sqlite"))}
    if (connection := await _connected()) is not None:
        made["postgres"] = await postgres_schema(connection, migrations.run_all("postgres"))
        await connection.close()
    for dialect, text in made.items():
        migrations.new_file(dialect).write_text(text)  # type: ignore[arg-type]


async def wrong_files(migrations: Migrations) -> AsyncIterator[Path]:
    """The files whose database differs from that of the migrations."""
    if sqlite_schema(migrations.run_all("sqlite")) != migrations.new_file("sqlite").read_text():
        yield migrations.new_file("sqlite")
    if (connection := await _connected()) is not None:
        # Not the text: each release of Postgres shows the same table a little differently.
        made = await postgres_schema(connection, migrations.upgrade("postgres"))
        if made != await postgres_schema(connection, migrations.run_all("postgres")):
            yield migrations.new_file("postgres")
        await connection.close()


async def main() -> None:
    """Write all files; with `--check` exit with a line for each stale one."""
    for migrations in (BROKER, SERVER):
        if "--check" not in sys.argv:
            await write(migrations)
        elif wrong := [file async for file in wrong_files(migrations)]:
            sys.exit(
                "\n".join(
                    f"{file} is not what the migrations make: run python scripts/schema.py"
                    for file in wrong
                )
            )


if __name__ == "__main__":
    asyncio.run(main())
