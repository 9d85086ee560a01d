"""The seam to a database: rules are generators of queries, an adapter drives them.

A *transaction* is a generator function without arguments (use `functools.partial`): it yields
`Query` values, is sent their rows, and returns its answer. It holds no connection, no thread and
no dialect, so each rule is written once; SQLite drives it in its writer thread, Postgres over
asyncpg. It may be run again from the start, so it must do nothing but query and compute.

SQL is one text for both databases, with numbered parameters `$1…`, or named ones (`:name`, see `named`). `FOR SHARE` holds rows on Postgres.
"""

import re
from collections.abc import Callable, Generator, Hashable, Sequence
from functools import lru_cache
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")

Rows = Sequence[Sequence[Any]]


class Query:
    """One statement and its parameters."""

    __slots__ = ("parameters", "sql")

    def __init__(self, sql: str, *parameters: Any) -> None:
        self.sql = sql
        self.parameters = parameters

    def __repr__(self) -> str:
        # Parameters are people's messages and secrets' digests: not for a log.
        return f"Query({self.sql!r}, <{len(self.parameters)} parameters>)"


Steps = Generator[Query, Rows, T]
Transaction = Callable[[], Steps[T]]

_NAME = re.compile(r"(?<![:\w]):([a-z_]+)")


def named(sql: str, **values: Any) -> Query:
    """A query with a parameter for each `:name` in *sql*."""
    numbered, names = _numbered(sql)
    return Query(numbered, *[values[name] for name in names])


@lru_cache(maxsize=256)
def _numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    """*sql* with `$1…` in place of names, and the names in that order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return _NAME.sub(number, sql), tuple(names)


def all_rows(query: Query) -> Steps[Rows]:
    """A transaction of one query; answers its rows."""
    return (yield query)


def first_row(query: Query) -> Steps[Sequence[Any] | None]:
    """A transaction of one query; answers its first row, None if there is none."""
    rows = yield query
    return rows[0] if rows else None


class Undo(Exception):  # noqa: N818 – a decision, not an error
    """Raised by a transaction that wants nothing of it kept, and still has an answer."""

    def __init__(self, answer: Any) -> None:
        super().__init__("undo")
        self.answer = answer


class UniqueViolation(Exception):  # noqa: N818
    """A row with that key exists; `index` says in which index."""

    def __init__(self, index: str) -> None:
        super().__init__(index)
        self.index = index


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
    """An open database. Everything raises what its profile says while it cannot answer."""

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
        """True if the database takes writes, False if it only answers reads; raises if it does not answer."""
        ...

    async def close(self) -> None:
        """Finish what was begun, refuse what comes after."""
        ...
