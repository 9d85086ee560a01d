"""SQLite drives transactions: over a connection in autocommit, which somebody has begun one on."""

import re
import sqlite3
from functools import lru_cache
from typing import TypeVar

from chat_broker_kit.database.transactions import Rows, Steps, UniqueViolation

T = TypeVar("T")


def drive(connection: sqlite3.Connection, steps: Steps[T]) -> T:
    """Run the queries of *steps* one after the other; answers what it returns."""
    try:
        query = next(steps)
        while True:
            try:
                rows: Rows = connection.execute(dialect(query.sql), query.parameters).fetchall()
            except sqlite3.IntegrityError as error:
                if "UNIQUE" not in str(error):
                    raise
                query = steps.throw(UniqueViolation(_violated(str(error))))
            else:
                query = steps.send(rows)
    except StopIteration as end:
        answer: T = end.value
        return answer


@lru_cache(maxsize=1024)
def dialect(sql: str) -> str:
    """*sql* as SQLite spells it. Rows are not locked one by one: there is one writer."""
    return re.sub(r"\$(\d+)", r"?\1", sql).replace(" FOR SHARE", "")


def _violated(text: str) -> str:
    """The columns of the unique index that refused, as SQLite names them."""
    return text.partition("failed: ")[2]
