"""Postgres over asyncpg: a pool in which nothing waits for ever."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import lru_cache
from typing import Any

import asyncpg

from chat_broker.storage.database import POOL_SECONDS, AlreadyThere, Failures, Row
from chat_broker_kit.database.postgres_connections import SessionLimits, open_pool
from chat_broker_kit.database.url import shown_url

COMMAND_SECONDS = 5.0
CONNECTIONS = 15
LOOKUPS_AT_ONCE = 4
"""Of `one`. More would open connections in a burst, which costs more than to wait."""
LIMITS = SessionLimits(statement=5000, lock=5000, idle_in_transaction=10_000)

_FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_NAME = re.compile(r"(?<![:\w]):([a-z_]+)")


class PostgresDatabase:
    """A database on a Postgres server."""

    is_sqlite = False

    def __init__(self, url: str, pool: Any) -> None:
        self.url = url
        self._pool = pool
        self._looking = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._failures = Failures(shown_url(url))

    async def one(self, sql: str, **values: Any) -> Row | None:
        """See Database."""
        with self._translated():
            async with asyncio.timeout(POOL_SECONDS):
                await self._looking.acquire()
        try:
            return next(iter(await self.rows(sql, **values)), None)
        finally:
            self._looking.release()

    async def rows(self, sql: str, **values: Any) -> Sequence[Row]:
        """See Database."""
        async with self._connection() as connection:
            return await _Transaction(connection).run(sql, **values)

    @asynccontextmanager
    async def write(self) -> AsyncIterator["_Transaction"]:
        """See Database."""
        async with self._connection() as connection, connection.transaction():
            yield _Transaction(connection)

    async def has_table(self, name: str) -> bool:
        """See Database."""
        row = await self.one("SELECT to_regclass(:name) IS NOT NULL AS there", name=name)
        return row is not None and bool(row["there"])

    async def close(self) -> None:
        """Close every connection; by force those that are still at something after five seconds."""
        try:
            await asyncio.wait_for(self._pool.close(), COMMAND_SECONDS)
        except _FAILURES:
            self._pool.terminate()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        with self._translated():
            connection = await self._pool.acquire(timeout=POOL_SECONDS)
            try:
                yield connection
            except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError):
                # It may hang in the middle of an answer: the next one gets a fresh one.
                with suppress(asyncpg.InterfaceError):
                    connection.terminate()
                raise
            finally:
                await self._pool.release(connection, timeout=POOL_SECONDS)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.UniqueViolationError:
            raise AlreadyThere from None
        except _FAILURES as error:
            raise self._failures.unavailable(error) from None


class _Transaction:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def run(self, sql: str, **values: Any) -> Sequence[Row]:
        """See Transaction."""
        numbered, names = _numbered(sql)
        found: Sequence[Row] = await self._connection.fetch(
            numbered, *(values[name] for name in names)
        )
        return found


async def open_postgres(url: str) -> PostgresDatabase:
    """The database at *url*. Connects when it is first asked."""
    pool = await open_pool(
        url, "chat-broker", size=CONNECTIONS, limits=LIMITS, command_timeout=COMMAND_SECONDS
    )
    return PostgresDatabase(url, pool)


@lru_cache(maxsize=256)
def _numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    """*sql* with `$1…` in place of names, and the names in that order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return _NAME.sub(number, sql), tuple(names)
