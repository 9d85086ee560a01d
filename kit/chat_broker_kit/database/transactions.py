"""The seam to a database: rules are generators of queries, an adapter drives them.

A *transaction* is a generator function without arguments (use `functools.partial`): it yields
`Query` values, is sent their rows, and returns its answer. It holds no connection, no thread and
no dialect, so each rule is written once; SQLite drives it in its writer thread, Postgres over
asyncpg. It may be run again from the start, so it must do nothing but query and compute.

SQL is one text for both databases, with numbered parameters `$1…`. `FOR SHARE` holds rows on Postgres.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

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
