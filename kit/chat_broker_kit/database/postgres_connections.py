"""Connections to Postgres, as both programs open them: bounded in time, and good for PgBouncer in session mode.

PgBouncer refuses every startup parameter that it does not track, so the time limits are set by a statement
after connecting. In transaction mode such a setting would stay with a server session that belongs to everybody.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg

from chat_broker_kit.database.transactions import Rows, Steps, UniqueViolation
from chat_broker_kit.urls.database import read_postgres_url

T = TypeVar("T")

CONNECT_SECONDS = 2.0
_ROUNDS = 3
_OWN_PID = "SELECT pg_backend_pid()"


class TransactionPooling(Exception):  # noqa: N818 - what stands in between, not a bug
    """A pooler hands each transaction to another session of the server."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long the server lets a session of ours do something, in milliseconds."""

    statement: int
    lock: int
    idle_in_transaction: int

    @property
    def sql(self) -> str:
        """The statements that set them."""
        return (
            f"SET statement_timeout = {self.statement}; SET lock_timeout = {self.lock};"
            f" SET idle_in_transaction_session_timeout = {self.idle_in_transaction}"
        )


async def connect(url: str, application_name: str, *, command_timeout: float | None) -> Any:
    """One connection for a few statements. Waits for it as long as `connect_timeout` in *url* says."""
    address = read_postgres_url(url)
    return await asyncpg.connect(
        **address.arguments(application_name),
        timeout=address.connect_timeout or CONNECT_SECONDS,
        command_timeout=command_timeout,
        # Behind a pooler in transaction mode, kept statements are others' or gone.
        statement_cache_size=0,
    )


async def open_pool(
    url: str, application_name: str, *, size: int, limits: SessionLimits, command_timeout: float
) -> Any:
    """A pool of up to *size* connections. Connects when it is first asked."""
    address = read_postgres_url(url)
    return await asyncpg.create_pool(
        **address.arguments(application_name),
        # A floor would be kept up by a task that logs every failed try with a traceback.
        min_size=0,
        max_size=size,
        timeout=address.connect_timeout or CONNECT_SECONDS,
        command_timeout=command_timeout,
        init=_setting(limits),
        # No statement of ours leaves anything behind in a session: a round trip less per call.
        reset=_nothing_to_reset,
    )


async def refuse_transaction_pooling(connection: Any, reconnect: Callable[[], Any]) -> None:
    """Raises TransactionPooling if *connection* shares the server's sessions with others.

    Costs one query where no pooler stands in between. *reconnect* opens a second connection.
    """
    async with connection.transaction():
        own = await connection.fetchval(_OWN_PID)
    if own == connection.get_server_pid():
        return  # a pooler makes up what it says at the start
    second = await reconnect()
    try:
        for round_ in range(_ROUNDS):
            if await _is_shared(connection, second, first_ends_first=round_ % 2 == 1):
                raise TransactionPooling
    finally:
        await second.close(timeout=CONNECT_SECONDS)


async def _is_shared(first: Any, second: Any, *, first_ends_first: bool) -> bool:
    """Does the server session of *second* change, or is it that of *first*?

    Which session a pooler gives out next depends on which came back last, so both orders are tried.
    """
    async with asyncio.timeout(2 * CONNECT_SECONDS):
        transactions = [first.transaction(), second.transaction()]
        for transaction in transactions:
            await transaction.start()
        holds = [await first.fetchval(_OWN_PID), await second.fetchval(_OWN_PID)]
        for transaction in transactions if first_ends_first else reversed(transactions):
            await transaction.commit()
        async with second.transaction():
            later = await second.fetchval(_OWN_PID)
    return bool(holds[0] == holds[1] or later != holds[1])


def _setting(limits: SessionLimits) -> Callable[[Any], Coroutine[Any, Any, None]]:
    async def set_limits(connection: Any) -> None:
        await connection.execute(limits.sql, timeout=CONNECT_SECONDS)

    return set_limits


async def _nothing_to_reset(_connection: Any) -> None:
    return


async def drive_postgres(connection: Any, steps: Steps[T], within: float | None) -> T:
    """Run the queries of *steps* one after the other, each *within* so many seconds; answers what it returns."""
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
        answer: T = end.value
        return answer
