"""Brings a database to the present shape, once, whoever of several processes comes first."""

from pathlib import Path

import sqlalchemy as sa

from app.state.database import Database

MIGRATIONS = Path(__file__).with_name("migrations")
VERSIONS = "broker_schema"
"""Where the revision is kept. Not Alembic's usual name: the embedded server may live in the same database."""
_LOCK = 0x63686174_62726F6B  # any number that nobody else takes: "chatbrok"


class SchemaTooNew(Exception):  # noqa: N818 - what the database is
    """A newer broker has been here; this one would not understand what it finds."""


def head() -> str:
    """The newest revision this program knows: files are named `<revision>_<what it does>.py`."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


async def migrate(database: Database) -> None:
    """Run what has not been run yet. Raises SchemaTooNew, StateUnavailable."""
    if await _revision(database) == head():
        return  # the usual start does without importing Alembic
    async with database.write() as connection:
        if not database.is_sqlite:
            # Held until the end of the transaction; on SQLite BEGIN IMMEDIATE does the same.
            await connection.execute(
                sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK}
            )
        await connection.run_sync(_upgrade)


async def _revision(database: Database) -> str | None:
    async with database.read() as connection:
        there = await connection.run_sync(lambda sync: sa.inspect(sync).has_table(VERSIONS))
        if not there:
            return None
        revision = await connection.scalar(sa.text("SELECT version_num FROM broker_schema"))
    if revision is not None and revision > head():
        raise SchemaTooNew(f"the database has the schema {revision}; this broker knows {head()}")
    return None if revision is None else str(revision)


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
