"""One database behind plain SQL: SQLite or Postgres, chosen by the URL alone.

SQL is one text for both, with named parameters (`:name`). No query builder stands in between: loading
one takes longer than all the rest of a start, and building a statement longer than SQLite needs for it.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import structlog

from chat_broker.chat.ports import StateUnavailable

log = structlog.get_logger(__name__)

BUSY_SECONDS = 5
POOL_SECONDS = 2


class AlreadyThere(Exception):  # noqa: N818 - what the row is
    """A row with that key exists."""


class Row(Protocol):
    """One row of an answer."""

    def __getitem__(self, column: str, /) -> Any: ...


class Transaction(Protocol):
    """An open transaction that may write."""

    async def run(self, sql: str, **values: Any) -> Sequence[Row]:
        """Run one statement; answers its rows. Raises AlreadyThere."""
        ...


class Database(Protocol):
    """Everything raises StateUnavailable when the database does not answer in time."""

    is_sqlite: bool
    """One file, one writer?"""

    async def one(self, sql: str, **values: Any) -> Row | None:
        """The first row of a query that finds by index; None if there is none.

        On SQLite it is answered right here, on the loop's thread: 15 µs, where a trip to another
        thread costs 80.
        """
        ...

    async def rows(self, sql: str, **values: Any) -> Sequence[Row]:
        """All rows of a query, which may take long."""
        ...

    def write(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that writes: committed at the end of the block, or not at all.

        On SQLite it begins IMMEDIATE: one that read first and wrote later would fail at once under load.
        """
        ...

    async def has_table(self, name: str) -> bool:
        """Is there a table of that name?"""
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...


class Failures:
    """Turns a driver's errors into what callers hear. The log hears too, though not of a thousand alike."""

    def __init__(self, where: str = "") -> None:
        """*where* the database is, for the log; without credentials."""
        self._where = where
        self._complained_at = -1.0

    def unavailable(self, error: BaseException) -> StateUnavailable:
        """What to raise for *error*, with its kind alone: its text may hold the URL, and with it a password."""
        kind = type(error).__name__
        now = time.monotonic()
        if now >= self._complained_at + 1:
            self._complained_at = now
            log.warning("database.unavailable", store="broker", where=self._where, error=kind)
        return StateUnavailable(f"the database does not answer: {kind}")


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """The database at *url* (`sqlite:///path` or `postgresql://…`), for as long as the block lasts."""
    database: Database
    if url.startswith("sqlite"):
        from chat_broker.storage.sqlite import open_sqlite

        database = open_sqlite(url.removeprefix("sqlite:///"))
    else:
        from chat_broker.storage.postgres import open_postgres  # loads its driver

        database = await open_postgres(url)
    try:
        yield database
    finally:
        await database.close()
