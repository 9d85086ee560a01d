"""Postgres drives transactions: over a connection of asyncpg, each query bounded in time."""

from typing import Any, TypeVar

import asyncpg

from chat_broker_kit.database.transactions import Rows, Steps, UniqueViolation

T = TypeVar("T")


async def drive(connection: Any, steps: Steps[T], within: float | None) -> T:
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
