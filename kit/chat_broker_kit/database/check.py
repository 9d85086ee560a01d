"""Checks a database before a program opens it, without changing anything."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from chat_broker_kit.database.failures import CannotOpenDatabase, explain_failure
from chat_broker_kit.database.migrations import Migrations
from chat_broker_kit.urls.database import is_sqlite, shown_url, sqlite_path

_SECONDS = 5.0


async def schema_version(url: str, schema: Migrations) -> str | None:
    """The version of *schema* at *url*; None if it does not exist yet.

    Raises CannotOpenDatabase if the program cannot open the database or not upgrade its schema.
    """
    if is_sqlite(url):
        version = _sqlite_version(url, schema)
    else:
        version = await _postgres_version(url, schema)
    if version is not None and version > schema.version:
        raise CannotOpenDatabase(
            f"{shown_url(url)} has the schema {version}, and this {schema.program} knows {schema.version}",
            f"start the newer {schema.program} that made it",
        )
    return version


def make_folder(url: str) -> None:
    """Create the private folder of a SQLite file. Raises CannotOpenDatabase."""
    if is_sqlite(url):
        try:
            Path(sqlite_path(url)).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise explain_failure(error, url) from None


def _sqlite_version(url: str, schema: Migrations) -> str | None:
    file = Path(sqlite_path(url)).absolute()
    _check_folder(file.parent)
    if not file.exists():
        return None
    if file.is_dir():
        raise CannotOpenDatabase(f"{file} is a folder", "name a file")
    if not os.access(file, os.R_OK | os.W_OK):
        raise CannotOpenDatabase(f"{file} may not be read and written", f"make {_user()} its owner")
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=1)) as database:
            row = database.execute(schema.version_query).fetchone()
    except sqlite3.Error as error:
        if "no such table" in str(error):
            return None
        raise explain_failure(error, url) from None
    return None if row is None else str(row[0])


def existing_folder(folder: Path) -> Path:
    """*folder*, or its nearest parent that exists and may be read."""
    nearest = folder.absolute()
    while not exists(nearest):
        nearest = nearest.parent
    return nearest


def exists(path: Path) -> bool:
    """False also for a path in a folder of another user."""
    try:
        return path.exists()
    except PermissionError:
        return False


def _check_folder(folder: Path) -> None:
    """Raise CannotOpenDatabase if no file can be created in *folder*, which may not exist yet."""
    nearest = existing_folder(folder)
    if not nearest.is_dir():
        raise CannotOpenDatabase(f"{nearest} is a file, and a folder is needed", "name another one")
    if not os.access(nearest, os.W_OK | os.X_OK):
        do = f"make {_user()} its owner, or name another folder"
        raise CannotOpenDatabase(f"{nearest} may not be written to", do)


def _user() -> str:
    return f"the user {os.geteuid()}" if hasattr(os, "geteuid") else "this user"


async def _postgres_version(url: str, schema: Migrations) -> str | None:
    import asyncpg  # takes long to load

    from chat_broker_kit.database.postgres_connections import connect, read_version, shares_sessions

    async def open_connection() -> Any:
        return await connect(url, schema.program, command_timeout=_SECONDS)

    try:
        connection = await open_connection()
        try:
            if await shares_sessions(connection, open_connection):
                raise CannotOpenDatabase(
                    f"{shown_url(url)} is a pooler in transaction mode, which loses what a session has set",
                    "use its session mode (pool_mode = session), or the address of Postgres itself",
                )
            version = await read_version(connection, schema.version_query)
            if version is None or version < schema.version:
                await _check_create_privilege(connection, url)
            return version
        finally:
            await connection.close(timeout=_SECONDS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
        raise explain_failure(error, url) from None


async def _check_create_privilege(connection: Any, url: str) -> None:
    row = await connection.fetchrow(
        "SELECT current_user AS role, current_schema() AS schema, pg_is_in_recovery() AS standby,"
        " has_schema_privilege(current_schema(), 'CREATE') AS may_create"
    )
    place = shown_url(url)
    if row["standby"]:
        what = f"{place} is a standby, which nothing can be written to"
        raise CannotOpenDatabase(what, "name the primary in the URL")
    if row["schema"] is None:
        what = f"{place} has none of the schemas in search_path"
        raise CannotOpenDatabase(what, "create one, or correct options in the URL")
    if not row["may_create"]:
        raise CannotOpenDatabase(
            f"the role {row['role']} may not make tables in {place}",
            f"GRANT CREATE ON SCHEMA {row['schema']} TO {row['role']}",
        )
