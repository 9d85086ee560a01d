"""Transactions of SQLite that share a COMMIT, of which each fails alone."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

from chat_broker_kit.database.sqlite_connections import drive, is_passing
from chat_broker_kit.database.transactions import Transaction, Undo


class Job:
    """A transaction, who waits for it, and how it ended: an error, or an answer of which all or nothing is *kept*."""

    __slots__ = ("answer", "committed", "error", "future", "kept", "transaction")

    def __init__(
        self,
        transaction: Transaction[Any],
        committed: Callable[[Any], None] | None,
        future: asyncio.Future[Any],
    ) -> None:
        self.transaction = transaction
        self.committed = committed
        self.future = future
        self.answer: Any = None
        self.error: BaseException | None = None
        self.kept = True

    def run(self, connection: sqlite3.Connection) -> bool:
        """Run it; True if there is nothing to undo. Raises what ends the whole group."""
        self.answer, self.error, self.kept = None, None, True
        changes = connection.total_changes
        try:
            self.answer = drive(connection, self.transaction())
        except Undo as undo:
            self.answer, self.kept = undo.answer, False
        except sqlite3.Error as error:
            # A full disk or a broken file ends the whole group; SQLite may have rolled back already.
            if is_passing(error) or not connection.in_transaction:
                raise
            self.error, self.kept = error, False
        except BaseException as error:  # noqa: BLE001 – the caller gets it
            self.error, self.kept = error, False
        return self.kept or connection.total_changes == changes


def write_group(connection: sqlite3.Connection, group: list[Job]) -> None:
    """Run all in one transaction and commit it, without whatever a failed one had written.

    A savepoint costs a third of what a message does, so they are set only once somebody has failed
    with something to undo: then all that was done is undone, and done again.
    """
    connection.execute("BEGIN IMMEDIATE")
    if not all(job.run(connection) for job in group):
        connection.execute("ROLLBACK")
        if len(group) == 1:
            return
        connection.execute("BEGIN IMMEDIATE")
        for job in group:
            connection.execute("SAVEPOINT one")
            if not job.run(connection):
                connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
    connection.execute("COMMIT")
