"""Connections to a file of SQLite, and transactions driven over one."""

import re
import sqlite3
from functools import lru_cache
from typing import TypeVar

from chat_broker_kit.database.transactions import Rows, Steps, UniqueViolation

T = TypeVar("T")


def connect(path: str, *, busy_timeout: float) -> sqlite3.Connection:
    """A connection as every part of this program uses it."""
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
    """Run the queries of *steps* one after the other; answers what it returns."""
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
        answer: T = end.value
        return answer


@lru_cache(maxsize=1024)
def dialect(sql: str) -> str:
    """*sql* as SQLite spells it. Rows are not locked one by one: there is one writer."""
    return re.sub(r"\$(\d+)", r"?\1", sql).replace(" FOR SHARE", "")


def _violated(text: str) -> str:
    """The columns of the unique index that refused, as SQLite names them."""
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
    """The file is the trouble, not the query: it may be well again later."""
    return error_name(error).removeprefix("SQLITE_").startswith(_PASSING)


def error_name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or ""
