"""A database on a Postgres server: an asyncpg pool with timeouts for everything.

Timeouts: 2 s for a connection, 2 s for a statement (a commit 4 s, a slow read 5 s; on the server always 5 s), 2 s for a
lock, 10 s for an idle transaction. Serialization failures and deadlocks are retried once.

A shortcut takes one round trip instead of one for each statement, BEGIN and COMMIT (docs/performance.md). It calls a
function that is created in each session on first use. Shortcuts with an equal `turn` run one after the other: at once,
each would hold a connection while it waits for the same rows.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg
import structlog

from chat_broker_kit.bounded_cache import BoundedCache
from chat_broker_kit.database.migrations import migrate_postgres
from chat_broker_kit.database.postgres_connections import (
    connect,
    drive_postgres,
    open_pool,
    read_version,
)
from chat_broker_kit.database.profile import Profile
from chat_broker_kit.database.transactions import Query, Shortcut, Steps, Transaction, Undo
from chat_broker_kit.database.write_state import WriteState
from chat_broker_kit.urls.location import location

T = TypeVar("T")

ACQUIRE_TIMEOUT = 2.0
COMMAND_TIMEOUT = 2.0
COMMIT_TIMEOUT = 4.0
SLOW_TIMEOUT = 5.0
MAX_FUNCTIONS = 1_000

UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresSystemError,  # an error of the server's operating system
)
NOT_WRITABLE = (
    asyncpg.DiskFullError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.LockNotAvailableError,
)
"""Errors of a write during which reads may still work."""
RETRYABLE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)

log = structlog.get_logger(__name__)


class PostgresDatabase:
    """A database on a Postgres server."""

    name = "postgres"

    def __init__(self, pool: Any, profile: Profile, where: str = "") -> None:
        """*where*: the server's location for the log, without credentials."""
        self._pool = pool
        self._profile = profile
        self._state = WriteState(profile.store, where)
        self._writing: set[asyncio.Task[Any]] = set()
        self._turns: dict[Hashable, _Turn] = {}
        self._functions = BoundedCache[tuple[int, str], bool](MAX_FUNCTIONS)
        """The functions created in each session, by the process id of its server."""
        self._may_create_functions = True
        most = profile.lookups_at_once
        self._lookups = None if most is None else asyncio.Semaphore(most)

    async def read(self, transaction: Transaction[T], *, slow: bool = False) -> T:
        """Run queries on a connection of the pool. Each sees what was committed before it."""
        if slow or self._lookups is None:
            return await self._read(transaction, SLOW_TIMEOUT if slow else COMMAND_TIMEOUT)
        try:
            async with asyncio.timeout(ACQUIRE_TIMEOUT):
                await self._lookups.acquire()
        except TimeoutError:
            raise self._profile.unavailable("too many reads wait for a connection") from None
        try:
            return await self._read(transaction, COMMAND_TIMEOUT)
        finally:
            self._lookups.release()

    async def _read(self, transaction: Transaction[T], within: float) -> T:
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT)
            try:
                return await drive_postgres(connection, transaction(), within)
            except UNAVAILABLE:
                # The connection may still wait for a result.
                _discard(connection)
                raise
            finally:
                await self._pool.release(connection, timeout=ACQUIRE_TIMEOUT)
        except UNAVAILABLE as error:
            raise self._profile.unavailable(_reason(error)) from None
        except asyncpg.PostgresError as error:
            raise self._profile.broken(error) from None

    def read_now(self, transaction: Transaction[T]) -> T | None:  # noqa: ARG002 – the protocol's argument
        """None: a read of Postgres always waits."""
        return None

    async def write(
        self,
        transaction: Transaction[T],
        committed: Callable[[T], None] | None = None,
        *,
        shortcut: Callable[[], Shortcut[T]] | None = None,
    ) -> T:
        """Run and commit a transaction in a task, which goes on if the caller is cancelled."""
        if shortcut is None:
            work = self._write(transaction, committed)
        else:
            work = self._write_in_turn(transaction, committed, shortcut())
        task = asyncio.create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._write_done)
        return await asyncio.shield(task)

    async def ping(self) -> bool:
        """Read a row, and rewrite it if the last write is too long ago."""

        migrations = self._profile.migrations

        def read_version() -> Steps[None]:
            yield Query(migrations.version_query)

        def probe() -> Steps[None]:
            yield Query(f"UPDATE {migrations.table} SET version_num = version_num")  # noqa: S608 - a fixed name

        await self.read(read_version)
        if self._state.is_unknown:
            try:
                await self.write(probe)
            except self._profile.outage as error:
                self._state.record_refusal(str(error))
        return self._state.is_writable

    async def close(self) -> None:
        """Finish running writes, then close all connections, by force after 5 s."""
        if self._writing:
            await asyncio.wait(set(self._writing), timeout=SLOW_TIMEOUT)
        try:
            await asyncio.wait_for(self._pool.close(), SLOW_TIMEOUT)
        except TimeoutError:
            self._pool.terminate()

    def _write_done(self, task: asyncio.Task[Any]) -> None:
        self._writing.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved here in case the caller was cancelled

    async def _write_in_turn(
        self,
        transaction: Transaction[T],
        committed: Callable[[T], None] | None,
        shortcut: Shortcut[T],
    ) -> T:
        async with self._turn(shortcut.turn):
            try:
                result = await self._run_shortcut(shortcut)
            except UNAVAILABLE as error:
                # It may have been committed: only the caller can know whether to retry.
                raise self._write_error(error) from None
            if result is None:
                return await self._write(transaction, committed)
            self._state.record_commit()
            if committed is not None:
                committed(result)
            return result

    @asynccontextmanager
    async def _turn(self, key: Hashable) -> AsyncIterator[None]:
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = _Turn()
        turn.users += 1
        try:
            try:
                if turn.users == 1:
                    await turn.lock.acquire()
                else:
                    async with asyncio.timeout(ACQUIRE_TIMEOUT):
                        await turn.lock.acquire()
            except TimeoutError:
                raise self._profile.unavailable("too many writes wait for their turn") from None
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]

    async def _run_shortcut(self, shortcut: Shortcut[T]) -> T | None:
        """The result after the commit; None if certainly nothing was done."""
        if not self._may_create_functions:
            return None
        query = shortcut.query
        connection = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT)
        try:
            if not await self._has_function(connection, shortcut.function):
                return None
            rows = await connection.fetch(query.sql, *query.parameters, timeout=COMMIT_TIMEOUT)
        except (asyncpg.UniqueViolationError, *RETRYABLE):
            return None
        except (asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError):
            # Not the session it was created in: there is a pooler, or a process id was reused.
            self._functions.forget_all()
            return None
        except (*UNAVAILABLE, asyncio.CancelledError):
            _discard(connection)
            raise
        finally:
            await self._pool.release(connection, timeout=ACQUIRE_TIMEOUT)
        return shortcut.answer(rows)

    async def _has_function(self, connection: Any, function: str) -> bool:
        """Create *function* in this session if it is not there. False if that is not allowed."""
        key = (connection.get_server_pid(), function)
        if self._functions.get(key):
            return True
        try:
            await connection.execute(function, timeout=COMMAND_TIMEOUT)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError) as error:
            self._may_create_functions = False
            log.warning("database.no_functions", reason=_reason(error))
            return False
        self._functions.put(key, True)
        return True

    async def _write(self, transaction: Transaction[T], committed: Callable[[T], None] | None) -> T:
        try:
            try:
                result, keep = await self._commit(transaction)
            except RETRYABLE as error:
                log.info("database.again", reason=type(error).__name__)
                # A random pause, so that two transactions of a deadlock do not meet again.
                await asyncio.sleep(random.uniform(0.01, 0.1))  # noqa: S311 – not a secret
                result, keep = await self._commit(transaction)
        except RETRYABLE as error:
            raise self._profile.not_writable(_reason(error)) from None
        except UNAVAILABLE as error:
            raise self._write_error(error) from None
        except asyncpg.PostgresError as error:
            raise self._profile.broken(error) from None
        self._state.record_commit()
        if keep and committed is not None:
            committed(result)
        return result

    async def _commit(self, transaction: Transaction[T]) -> tuple[T, bool]:
        connection = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT)
        try:
            try:
                await connection.execute("BEGIN", timeout=COMMAND_TIMEOUT)
                result = await drive_postgres(connection, transaction(), COMMAND_TIMEOUT)
                await connection.execute("COMMIT", timeout=SLOW_TIMEOUT)
                return result, True
            except Undo as undo:
                await connection.execute("ROLLBACK", timeout=COMMAND_TIMEOUT)
                result = undo.answer
                return result, False
            except UNAVAILABLE:
                _discard(connection)
                raise
            except Exception:
                await connection.execute("ROLLBACK", timeout=COMMAND_TIMEOUT)
                raise
            except BaseException:
                _discard(connection)
                raise
        finally:
            await self._pool.release(connection, timeout=ACQUIRE_TIMEOUT)

    def _write_error(self, error: BaseException) -> Exception:
        """The exception for the caller of a write that failed with *error*, one of UNAVAILABLE."""
        if isinstance(error, NOT_WRITABLE):
            # A lock concerns only some rows.
            if not isinstance(error, asyncpg.LockNotAvailableError):
                self._state.record_refusal(_reason(error))
            return self._profile.not_writable(_reason(error))
        return self._profile.unavailable(_reason(error))


class _Turn:
    """A lock, and the number of tasks that hold it or wait for it."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


async def open_postgres(url: str, profile: Profile, *, pool: int) -> PostgresDatabase:
    """Upgrade the schema at *url*, and open a pool of up to *pool* connections."""
    migrations = profile.migrations
    connection = await connect(url, migrations.program, command_timeout=COMMAND_TIMEOUT)
    try:
        version = await read_version(connection, migrations.version_query)
    finally:
        await connection.close(timeout=COMMAND_TIMEOUT)
    if not migrations.is_current(version) and await migrate_postgres(url, migrations):
        log.info("database.migrated", program=migrations.program, schema=migrations.version)
    opened = await open_pool(url, migrations.program, size=pool, command_timeout=SLOW_TIMEOUT)
    return PostgresDatabase(opened, profile, location(url))


def _discard(connection: Any) -> None:
    """Close a connection at once."""
    with suppress(asyncpg.InterfaceError):  # a broken one is back in the pool already
        connection.terminate()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
