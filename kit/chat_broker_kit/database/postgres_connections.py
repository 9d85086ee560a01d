"""Connections to Postgres for both programs: with timeouts, and usable through PgBouncer in session mode.

PgBouncer refuses startup parameters that it does not track, so the server's timeouts are set by a statement after
connecting. In transaction mode such a setting would apply to other clients of the server session.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import asyncpg

from chat_broker_kit.database.transactions import Rows, Steps, UniqueViolation
from chat_broker_kit.urls.database import read_postgres_url

T = TypeVar("T")

CONNECT_SECONDS = 2.0
_ROUNDS = 3
_OWN_PID = "SELECT pg_backend_pid()"
_SERVER_TIMEOUTS = (
    "SET statement_timeout = '5s'; SET lock_timeout = '2s';"
    " SET idle_in_transaction_session_timeout = '10s'"
)


async def connect(url: str, application_name: str, *, command_timeout: float | None) -> Any:
    """A single connection. The `connect_timeout` in *url* limits connecting; *command_timeout* is in seconds."""
    address = read_postgres_url(url)
    return await asyncpg.connect(
        **address.arguments(application_name),
        timeout=address.connect_timeout or CONNECT_SECONDS,
        command_timeout=command_timeout,
        # Behind a pooler in transaction mode, a prepared statement may be missing or another client's.
        statement_cache_size=0,
    )


async def open_pool(url: str, application_name: str, *, size: int, command_timeout: float) -> Any:
    """A pool of up to *size* connections, which are opened when needed. *command_timeout* is in seconds."""
    address = read_postgres_url(url)
    return await asyncpg.create_pool(
        **address.arguments(application_name),
        # With a minimum, a task of the pool logs each failed attempt with a traceback.
        min_size=0,
        max_size=size,
        timeout=address.connect_timeout or CONNECT_SECONDS,
        command_timeout=command_timeout,
        init=_set_server_timeouts,
        # Saves a round trip a call: no statement changes the session.
        reset=_nothing_to_reset,
    )


async def shares_sessions(connection: Any, reconnect: Callable[[], Any]) -> bool:
    """Whether a pooler runs each transaction of *connection* in another session of the server.

    Takes one query without a pooler. *reconnect* opens a second connection.
    """
    async with connection.transaction():
        own = await connection.fetchval(_OWN_PID)
    if own == connection.get_server_pid():
        return False  # a pooler reports a process id of its own
    second = await reconnect()
    try:
        for round_ in range(_ROUNDS):
            if await _is_shared(connection, second, first_ends_first=round_ % 2 == 1):
                return True
    finally:
        await second.close(timeout=CONNECT_SECONDS)
    return False


async def _is_shared(first: Any, second: Any, *, first_ends_first: bool) -> bool:
    """Whether the server session of *second* changes, or is that of *first*.

    A pooler's choice depends on the session that was returned last, so the caller tries both orders.
    """
    async with asyncio.timeout(2 * CONNECT_SECONDS):
        transactions = [first.transaction(), second.transaction()]
        for transaction in transactions:
            await transaction.start()
        sessions = [await first.fetchval(_OWN_PID), await second.fetchval(_OWN_PID)]
        for transaction in transactions if first_ends_first else reversed(transactions):
            await transaction.commit()
        async with second.transaction():
            later = await second.fetchval(_OWN_PID)
    return bool(sessions[0] == sessions[1] or later != sessions[1])


async def read_version(connection: Any, query: str) -> str | None:
    """The version that *query* returns; None if there is no schema yet."""
    try:
        version: str | None = await connection.fetchval(query)
    except asyncpg.UndefinedTableError:
        return None
    return version


async def _set_server_timeouts(connection: Any) -> None:
    await connection.execute(_SERVER_TIMEOUTS, timeout=CONNECT_SECONDS)


async def _nothing_to_reset(_connection: Any) -> None:
    return


async def drive_postgres(connection: Any, steps: Steps[T], within: float | None) -> T:
    """Run the queries of *steps* in order, each *within* so many seconds, and return its result."""
    try:
        query = next(steps)
        while True:
            try:
                rows: Rows = await connection.fetch(query.sql, *query.parameters, timeout=within)
            except asyncpg.UniqueViolationError as error:
                query = steps.throw(UniqueViolation(error.constraint_name or ""))
            else:
                query = steps.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result
