"""SQLite transactions that share a COMMIT and fail separately."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

from chat_broker_kit.database.sqlite_connections import drive, is_passing
from chat_broker_kit.database.transactions import Transaction, Undo


class Job:
    """A transaction, its caller's future, and its outcome: an error or a result. *keep*: its writes are committed."""

    __slots__ = ("committed", "error", "future", "keep", "result", "transaction")

    def __init__(
        self,
        transaction: Transaction[Any],
        committed: Callable[[Any], None] | None,
        future: asyncio.Future[Any],
    ) -> None:
        self.transaction = transaction
        self.committed = committed
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None
        self.keep = True

    def run(self, connection: sqlite3.Connection) -> bool:
        """Run the transaction; True if none of its writes must be undone. Raises an error that ends the whole group."""
        self.result, self.error, self.keep = None, None, True
        changes = connection.total_changes
        try:
            self.result = drive(connection, self.transaction())
        except Undo as undo:
            self.result, self.keep = undo.answer, False
        except sqlite3.Error as error:
            # A full disk or a damaged file ends the whole group; SQLite may have rolled back already.
            if is_passing(error) or not connection.in_transaction:
                raise
            self.error, self.keep = error, False
        except BaseException as error:  # noqa: BLE001 – raised to the caller
            self.error, self.keep = error, False
        return self.keep or connection.total_changes == changes


def write_group(connection: sqlite3.Connection, group: list[Job]) -> None:
    """Run all jobs in one transaction, and commit it without the writes of those that failed.

    A savepoint costs a third of a message. So they are set only after a job has failed with writes to undo: then all
    jobs are rolled back and run again.
    """
    connection.execute("BEGIN IMMEDIATE")
    if not all(job.run(connection) for job in group):
        connection.execute("ROLLBACK")
        if len(group) == 1:
            return
        connection.execute("BEGIN IMMEDIATE")
        for job in group:
            connection.execute("SAVEPOINT job")
            if not job.run(connection):
                connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
    connection.execute("COMMIT")
