"""Postgres behind the seam: an asyncpg pool in which nothing waits for ever.

A connection is waited for two seconds, a statement runs at most five on the server and is given
up by us after two (one that commits after four, a slow one after five), a lock is waited for two, and
a transaction that idles is ended after ten. Serialization failures and deadlocks are tried once more.

A shortcut is one trip where a transaction is one for each statement, BEGIN and COMMIT, and calls a function that is made in
each session when it is first wanted there. Those of one turn go one by one:
side by side they would be in each other's way, and hold a connection each while they wait.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg
import structlog

from chat_broker_kit.database.migrations import migrate_postgres
from chat_broker_kit.database.postgres_connections import (
    SessionLimits,
    connect,
    drive_postgres,
    open_pool,
)
from chat_broker_kit.database.profile import Profile
from chat_broker_kit.database.transactions import Query, Shortcut, Steps, Transaction, Undo
from chat_broker_kit.database.write_state import WriteState
from chat_broker_kit.urls.location import location

T = TypeVar("T")

ACQUIRE = 2.0
COMMAND = 2.0
COMMITTING = 4.0
SLOW = 5.0
MOST_TAUGHT = 1_000
LIMITS = SessionLimits(statement=5000, lock=2000, idle_in_transaction=10_000)

AWAY = (
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
    asyncpg.PostgresSystemError,  # what the server's own operating system refuses
)
NOT_WRITABLE = (
    asyncpg.DiskFullError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.LockNotAvailableError,
)
"""Of a write: reads go on meanwhile."""
AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)

log = structlog.get_logger(__name__)


class PostgresDatabase:
    """A database on a Postgres server."""

    name = "postgres"

    def __init__(self, pool: Any, profile: Profile, where: str = "") -> None:
        """*where* the server is, for the log."""
        self._pool = pool
        self._profile = profile
        self._state = WriteState(profile.store, where)
        self._writing: set[asyncio.Task[Any]] = set()
        self._turns: dict[Hashable, _Turn] = {}
        self._taught: set[tuple[int, str]] = set()
        """Sessions, by the process that serves them, and the functions that were made there."""
        self._may_teach = True
        most = profile.lookups_at_once
        self._lookups = None if most is None else asyncio.Semaphore(most)

    async def read(self, transaction: Transaction[T], *, slow: bool = False) -> T:
        """Run queries on a connection of the pool, each seeing what was committed before it."""
        if slow or self._lookups is None:
            return await self._read(transaction, SLOW if slow else COMMAND)
        try:
            async with asyncio.timeout(ACQUIRE):
                await self._lookups.acquire()
        except TimeoutError:
            raise self._profile.unavailable("too many reads wait for a connection") from None
        try:
            return await self._read(transaction, COMMAND)
        finally:
            self._lookups.release()

    async def _read(self, transaction: Transaction[T], within: float) -> T:
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE)
            try:
                return await drive_postgres(connection, transaction(), within)
            except AWAY:
                # It may hang in the middle of an answer: the next caller gets a fresh one.
                _drop(connection)
                raise
            finally:
                await self._pool.release(connection, timeout=ACQUIRE)
        except AWAY as error:
            raise self._profile.unavailable(_reason(error)) from None
        except asyncpg.PostgresError as error:
            raise self._profile.broken(error) from None

    def read_now(self, transaction: Transaction[T]) -> T | None:  # noqa: ARG002 – as above
        """None: Postgres has to be waited for."""
        return None

    async def write(
        self,
        transaction: Transaction[T],
        committed: Callable[[T], None] | None = None,
        *,
        shortcut: Callable[[], Shortcut[T]] | None = None,
    ) -> T:
        """Run and commit it in a task of its own, which outlives a caller that goes away."""
        if shortcut is None:
            work = self._write(transaction, committed)
        else:
            work = self._write_in_turn(transaction, committed, shortcut())
        task = asyncio.create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    async def ping(self) -> bool:
        """Asks for one row; and writes one as it was, if nobody has written for a while."""

        migrations = self._profile.migrations

        def nothing() -> Steps[None]:
            yield Query(migrations.schema.version_query)

        def probe() -> Steps[None]:
            yield Query(f"UPDATE {migrations.table} SET version_num = version_num")  # noqa: S608 - a name of ours

        await self.read(nothing)
        if self._state.unknown:
            try:
                await self.write(probe)
            except self._profile.outage as error:
                self._state.refused(str(error))
        return self._state.good

    async def close(self) -> None:
        """Let running writes finish, then close every connection, by force after five seconds."""
        if self._writing:
            await asyncio.wait(set(self._writing), timeout=SLOW)
        try:
            await asyncio.wait_for(self._pool.close(), SLOW)
        except TimeoutError:
            self._pool.terminate()

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writing.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have gone: then nobody else looks at it

    async def _write_in_turn(
        self,
        transaction: Transaction[T],
        committed: Callable[[T], None] | None,
        shortcut: Shortcut[T],
    ) -> T:
        async with self._turn(shortcut.turn):
            try:
                answer = await self._by_shortcut(shortcut)
            except AWAY as error:
                # It may have been committed: nobody but the caller knows whether to say it again.
                raise self._refused(error) from None
            if answer is None:
                return await self._write(transaction, committed)
            self._state.taken()
            if committed is not None:
                committed(answer)
            return answer

    @asynccontextmanager
    async def _turn(self, key: Hashable) -> AsyncIterator[None]:
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = _Turn()
        turn.wanted += 1
        try:
            try:
                if turn.wanted == 1:
                    await turn.lock.acquire()
                else:
                    async with asyncio.timeout(ACQUIRE):
                        await turn.lock.acquire()
            except TimeoutError:
                raise self._profile.unavailable("too many writes wait for their turn") from None
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.wanted -= 1
            if not turn.wanted:
                del self._turns[key]

    async def _by_shortcut(self, shortcut: Shortcut[T]) -> T | None:
        """Its answer, once it is committed; None if certainly nothing was done."""
        if not self._may_teach:
            return None
        query = shortcut.query
        connection = await self._pool.acquire(timeout=ACQUIRE)
        try:
            if not await self._knows(connection, shortcut.function):
                return None
            rows = await connection.fetch(query.sql, *query.parameters, timeout=COMMITTING)
        except (asyncpg.UniqueViolationError, *AGAIN):
            return None
        except (asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError):
            # Another session than the one it was made in: a pooler stands between, or a process id came again.
            self._taught.clear()
            return None
        except (*AWAY, asyncio.CancelledError):
            _drop(connection)
            raise
        finally:
            await self._pool.release(connection, timeout=ACQUIRE)
        return shortcut.answer(rows)

    async def _knows(self, connection: Any, function: str) -> bool:
        """Is there *function* in this session? It is made if not; False if that is not allowed."""
        session = (connection.get_server_pid(), function)
        if session in self._taught:
            return True
        try:
            await connection.execute(function, timeout=COMMAND)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError) as error:
            self._may_teach = False
            log.warning("database.no_functions", reason=_reason(error))
            return False
        if len(self._taught) >= MOST_TAUGHT:
            self._taught.clear()
        self._taught.add(session)
        return True

    async def _write(self, transaction: Transaction[T], committed: Callable[[T], None] | None) -> T:
        try:
            try:
                answer, keep = await self._once(transaction)
            except AGAIN as error:
                log.info("database.again", reason=type(error).__name__)
                # Both sides of a deadlock may have been chosen: not both again at one moment.
                await asyncio.sleep(random.uniform(0.01, 0.1))  # noqa: S311 – no secret
                answer, keep = await self._once(transaction)
        except AGAIN as error:
            raise self._profile.not_writable(_reason(error)) from None
        except AWAY as error:
            raise self._refused(error) from None
        except asyncpg.PostgresError as error:
            raise self._profile.broken(error) from None
        self._state.taken()
        if keep and committed is not None:
            committed(answer)
        return answer

    async def _once(self, transaction: Transaction[T]) -> tuple[T, bool]:
        connection = await self._pool.acquire(timeout=ACQUIRE)
        try:
            try:
                await connection.execute("BEGIN", timeout=COMMAND)
                answer = await drive_postgres(connection, transaction(), COMMAND)
                await connection.execute("COMMIT", timeout=SLOW)
                return answer, True
            except Undo as undo:
                await connection.execute("ROLLBACK", timeout=COMMAND)
                answer = undo.answer
                return answer, False
            except AWAY:
                _drop(connection)
                raise
            except Exception:
                await connection.execute("ROLLBACK", timeout=COMMAND)
                raise
            except BaseException:
                _drop(connection)
                raise
        finally:
            await self._pool.release(connection, timeout=ACQUIRE)

    def _refused(self, error: BaseException) -> Exception:
        """What the caller of a write hears of *error*, one of AWAY."""
        if isinstance(error, NOT_WRITABLE):
            if not isinstance(
                error, asyncpg.LockNotAvailableError
            ):  # that is about some rows alone
                self._state.refused(_reason(error))
            return self._profile.not_writable(_reason(error))
        return self._profile.unavailable(_reason(error))


class _Turn:
    """A lock, and how many hold it or wait for it."""

    __slots__ = ("lock", "wanted")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.wanted = 0


async def open_postgres(url: str, profile: Profile, *, pool: int) -> PostgresDatabase:
    """Connect, bring the schema up to date, and keep up to *pool* connections."""
    migrations = profile.migrations
    connection = await connect(url, migrations.program, command_timeout=COMMAND)
    try:
        try:
            version = await connection.fetchval(migrations.schema.version_query)
        except asyncpg.UndefinedTableError:
            version = None
    finally:
        await connection.close(timeout=COMMAND)
    if not migrations.is_current(version) and await migrate_postgres(url, migrations):
        log.info("database.migrated", program=migrations.program, schema=migrations.schema.version)
    opened = await open_pool(
        url, migrations.program, size=pool, limits=LIMITS, command_timeout=SLOW
    )
    return PostgresDatabase(opened, profile, location(url))


def _drop(connection: Any) -> None:
    """Close it at once; one that died by itself has gone back to the pool already."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
