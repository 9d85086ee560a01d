"""Connections to a SQLite file, and running transactions over one."""

import re
import sqlite3
from functools import lru_cache
from typing import TypeVar

from chat_broker_kit.database.transactions import Rows, Steps, UniqueViolation

T = TypeVar("T")


def connect(path: str, *, busy_timeout: float) -> sqlite3.Connection:
    """A connection in autocommit, with this program's pragmas. *busy_timeout* is in seconds."""
    connection = sqlite3.connect(
        path,
        isolation_level=None,
        timeout=busy_timeout,
        check_same_thread=False,
        cached_statements=256,
    )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -8000")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def drive(connection: sqlite3.Connection, steps: Steps[T]) -> T:
    """Run the queries of *steps* in order, and return its result."""
    try:
        query = next(steps)
        while True:
            try:
                rows: Rows = connection.execute(dialect(query.sql), query.parameters).fetchall()
            except sqlite3.IntegrityError as error:
                if "UNIQUE" not in str(error):
                    raise
                query = steps.throw(UniqueViolation(_violated(str(error))))
            else:
                query = steps.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result


@lru_cache(maxsize=1024)
def dialect(sql: str) -> str:
    """*sql* in SQLite's syntax. There is one writer, so rows are not locked. Texts are compared as with the collation "C"."""
    return re.sub(r"\$(\d+)", r"?\1", sql).replace(" FOR SHARE", "").replace(' COLLATE "C"', "")


def _violated(text: str) -> str:
    """The columns of the violated unique index, as SQLite names them."""
    return text.partition("failed: ")[2]


_PASSING = (
    "BUSY",
    "LOCKED",
    "FULL",
    "READONLY",
    "IOERR",
    "CANTOPEN",
    "NOMEM",
    "CORRUPT",
    "NOTADB",
    "PERM",
)


def is_passing(error: sqlite3.Error) -> bool:
    """Whether the file causes the error, not the query: the query may succeed later."""
    return error_name(error).removeprefix("SQLITE_").startswith(_PASSING)


def error_name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or ""
