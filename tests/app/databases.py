"""Reads and changes a database directly, without the rules."""

from functools import partial
from typing import Any

from chat_broker_kit.database.transactions import Database, Rows, all_rows, named


async def execute(database: Database, sql: str, **values: Any) -> Rows:
    """Run one statement, and return its rows."""
    return await database.write(partial(all_rows, named(sql, **values)))
