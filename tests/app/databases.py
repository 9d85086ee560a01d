"""A database looked into and changed past the rules."""

from functools import partial
from typing import Any

from chat_broker_kit.database.transactions import Database, Rows, all_rows, named


async def execute(database: Database, sql: str, **values: Any) -> Rows:
    """Run one statement; answers its rows."""
    return await database.write(partial(all_rows, named(sql, **values)))
