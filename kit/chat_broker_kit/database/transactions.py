"""The interface to a database: rules are generators of queries, which SQLite and Postgres run.

A *transaction* is a generator function without arguments (use `functools.partial`): it yields `Query` values, is sent
their rows, and returns its result. It knows no connection, thread or dialect, so each rule is written once. SQLite runs
it in its writer thread, Postgres over asyncpg. It may be run again from the start, so it must only query and compute.

The SQL is the same for both databases, with numbered parameters `$1…`, or named ones (`named`). `FOR SHARE` locks rows
on Postgres, and `COLLATE "C"` has it compare texts by their characters' numbers, as SQLite does.
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
        # Parameters are messages and digests of secrets: never for a log.
        return f"Query({self.sql!r}, <{len(self.parameters)} parameters>)"


Steps = Generator[Query, Rows, T]
Transaction = Callable[[], Steps[T]]

_NAME = re.compile(r"(?<![:\w]):([a-z_]+)")


def named(sql: str, **values: Any) -> Query:
    """A query with the *values* of each `:name` in *sql*."""
    numbered, names = _numbered(sql)
    return Query(numbered, *[values[name] for name in names])


@lru_cache(maxsize=256)
def _numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    """*sql* with `$1…` instead of names, and the names in that order."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    return _NAME.sub(number, sql), tuple(names)


def all_rows(query: Query) -> Steps[Rows]:
    """The rows of a single query, as a transaction."""
    return (yield query)


def first_row(query: Query) -> Steps[Sequence[Any] | None]:
    """The first row of a single query, None if there is none, as a transaction."""
    rows = yield query
    return rows[0] if rows else None


class Undo(Exception):  # noqa: N818 – a decision, not an error
    """Raised by a transaction to roll back its writes and still return *answer*."""

    def __init__(self, answer: Any) -> None:
        super().__init__("undo")
        self.answer = answer


class UniqueViolation(Exception):  # noqa: N818
    """A row with that key exists already in the unique index *index*."""

    def __init__(self, index: str) -> None:
        super().__init__(index)
        self.index = index


class Shortcut(NamedTuple, Generic[T]):
    """One statement that does a transaction's work in the usual case, and changes nothing in other cases.

    Used where each statement takes a round trip. It is a single query, which commits by itself.
    """

    turn: Hashable
    """Shortcuts with an equal value run one after the other."""
    function: str
    """The statement that creates the function which *query* calls, in one session."""
    query: Query
    answer: Callable[[Rows], T | None]
    """The transaction's result from the rows; None if nothing was done: run the transaction."""


class Database(Protocol):
    """An open database. Its methods raise the exceptions of its Profile."""

    name: str

    async def read(self, transaction: Transaction[T], *, slow: bool = False) -> T:
        """Run a transaction that only reads. *slow* keeps a long one off the event loop."""
        ...

    def read_now(self, transaction: Transaction[T]) -> T | None:
        """`read` without waiting; None where that is not possible: await `read`."""
        ...

    async def write(
        self,
        transaction: Transaction[T],
        committed: Callable[[T], None] | None = None,
        *,
        shortcut: Callable[[], Shortcut[T]] | None = None,
    ) -> T:
        """Run and commit a transaction, and return its result. An exception rolls it back.

        *committed* is called with the result, in commit order, even if the caller is cancelled. A *shortcut* may be run
        instead of the transaction.
        """
        ...

    async def ping(self) -> bool:
        """Whether the database accepts writes. Raises the profile's outage if it does not answer."""
        ...

    async def close(self) -> None:
        """Finish running writes, then close. Later calls raise."""
        ...
