"""The database of the Chat API: what drives its transactions, and what callers hear while it cannot."""

import time
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, Protocol, TypeVar

import structlog

from chat_broker_kit.database.check import schema_version
from chat_broker_kit.database.transactions import Query, Rows, Transaction
from chat_broker_server.database.migrations import MIGRATIONS
from chat_broker_server.errors import Unavailable

T = TypeVar("T")


class Shortcut(NamedTuple, Generic[T]):
    """One statement that does what a transaction would where nothing is in its way, and changes nothing elsewhere.

    For a database to which each statement is a trip. It is one `Query`, not several, because it commits by itself.
    """

    turn: Hashable
    """Shortcuts with the same one take turns."""
    function: str
    """What *query* calls: the statement that makes it, for one session."""
    query: Query
    answer: Callable[[Rows], T | None]
    """What the transaction would have answered, from the rows; None if it was not done: the transaction decides."""


class Database(Protocol):
    """An open database. Everything raises Unavailable while it cannot answer."""

    name: str

    async def read(self, transaction: Transaction[T], *, slow: bool = False) -> T:
        """Run queries that change nothing. *slow* keeps a long one off the event loop."""
        ...

    def read_now(self, transaction: Transaction[T]) -> T | None:
        """`read`, if no other process has to be waited for; None if one has."""
        ...

    async def write(
        self,
        transaction: Transaction[T],
        committed: Callable[[T], None] | None = None,
        *,
        shortcut: Callable[[], Shortcut[T]] | None = None,
    ) -> T:
        """Run it, commit it, call *committed* with its answer (in commit order, even if the
        caller has gone away), and return that answer. An exception rolls everything back.
        A *shortcut* may be taken instead, where one is worth it."""
        ...

    async def ping(self) -> bool:
        """True if the database takes writes, False if it only answers reads; raises Unavailable if it does not answer."""
        ...

    async def close(self) -> None:
        """Finish what was begun, refuse what comes after."""
        ...


log = structlog.get_logger("chat_broker_server.database.seam")

PROBED_AFTER = 5.0
STEADY_AFTER = 5.0


class WriteState:
    """Whether a database takes writes: by the last ones, and by a probe where the last was too long ago.

    One that was refused counts for some seconds, whatever is taken meanwhile: a small write may still find room. Where
    an outage begins and where it ends is in the log.
    """

    def __init__(self, store: str, where: str, clock: Callable[[], float] = time.monotonic) -> None:
        """*store* and *where* are for the log: what is kept, and the place, without credentials."""
        self._about = {"store": store, "where": where}
        self._clock = clock
        self._taken_at = self._refused_at = float("-inf")
        self._lost_at: float | None = None

    def taken(self) -> None:
        """A write was committed."""
        self._taken_at = self._clock()
        if self._lost_at is not None and self.good:
            seconds = round(self._taken_at - self._lost_at, 1)
            self._lost_at = None
            log.info("database.back", **self._about, seconds=seconds)

    def refused(self, reason: str) -> None:
        """A write was refused for what is no fault of its own."""
        self._refused_at = self._clock()
        if self._lost_at is None:
            self._lost_at = self._refused_at
            log.warning("database.lost", **self._about, reason=reason)

    @property
    def unknown(self) -> bool:
        """Was the last write too long ago to tell?"""
        return self._clock() - max(self._taken_at, self._refused_at) >= PROBED_AFTER

    @property
    def good(self) -> bool:
        """Are writes taken?"""
        quiet = self._clock() - self._refused_at >= STEADY_AFTER
        return quiet and self._taken_at > self._refused_at


def unavailable(reason: str) -> Unavailable:
    """The caller's answer for a database that cannot serve now; the reason goes to the log."""
    log.warning("database.unavailable", store="chat", reason=reason)
    return Unavailable("database_unavailable", "The database cannot answer right now. Try again.")


async def check_database(url: str) -> str | None:
    """The schema's version at *url*, None if there is none yet; changes nothing. Raises CannotOpenDatabase."""
    return await schema_version(url, MIGRATIONS.schema)


def not_writable(reason: str) -> Unavailable:
    """The caller's answer for a write that the database refuses while it answers reads; the reason goes to the log.

    Its own code, because a client must not take it for a server that is down: a full disk would end reading, too.
    """
    log.warning("database.not_writable", store="chat", reason=reason)
    return Unavailable(
        "writes_unavailable", "Nothing can be stored right now; reading goes on. Try again."
    )


async def open_database(url: str, *, pool: int = 10) -> Database:
    """Open the database at *url* and bring its schema up to date.

    Raises SchemaTooNew for a schema of a newer version, and what the driver raises (OSError,
    its own errors) if the database cannot be opened.
    """
    if url.startswith("sqlite:///"):
        from chat_broker_server.database.sqlite import open_sqlite

        return await open_sqlite(url.removeprefix("sqlite:///"))
    from chat_broker_server.database.postgres import open_postgres

    return await open_postgres(url, pool=pool)
