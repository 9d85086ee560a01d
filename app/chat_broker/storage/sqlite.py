"""SQLite: one writer in a thread of its own, reads by index on the loop's thread, long reads in others."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, TypeVar

from chat_broker.storage.database import BUSY_SECONDS, AlreadyThere, Failures, Row

T = TypeVar("T")

_TAKEN = {"SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_ROWID"}


class SqliteDatabase:
    """A database in one file."""

    is_sqlite = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None  # belongs to the one thread of _writing
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="state-writer")
        self._turn = asyncio.Lock()
        self._failures = Failures(str(path.absolute()))

    async def one(self, sql: str, **values: Any) -> Row | None:
        """See Database."""
        try:
            if self._reader is None:
                self._reader = _reader(self._path)
            row: Row | None = self._reader.execute(sql, values).fetchone()
        except sqlite3.Error as error:
            raise self._failures.unavailable(error) from None
        return row

    async def rows(self, sql: str, **values: Any) -> Sequence[Row]:
        """See Database. On a connection of its own, so that nobody waits for anybody."""

        def read() -> list[Row]:
            with closing(_reader(self._path)) as connection:
                return connection.execute(sql, values).fetchall()

        try:
            return await asyncio.to_thread(read)
        except sqlite3.Error as error:
            raise self._failures.unavailable(error) from None

    @asynccontextmanager
    async def write(self) -> AsyncIterator["_Transaction"]:
        """See Database. One at a time, in the order they come: SQLite itself lets anybody go first."""
        try:
            async with asyncio.timeout(BUSY_SECONDS):
                await self._turn.acquire()
        except TimeoutError as error:
            raise self._failures.unavailable(error) from None
        try:
            try:
                await self._in_writer(self._begin)
                yield _Transaction(self)
                await self._in_writer(self._commit)
            except BaseException:
                # In the writer's thread, after whatever it is still at, even if this task was cancelled; and put there
                # now, since a second cancellation would take it out of the queue again.
                loop = asyncio.get_running_loop()
                await asyncio.shield(loop.run_in_executor(self._writing, self._rollback))
                raise
        finally:
            self._turn.release()

    async def has_table(self, name: str) -> bool:
        """See Database."""
        found = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name"
        return await self.one(found, name=name) is not None

    async def alone(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run *work* in the writer's thread, inside one transaction; others wait for it."""
        async with self.write():
            return await self._in_writer(lambda: work(self._connection()))

    async def close(self) -> None:
        """Close the file, after what was begun."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        await self._in_writer(self._forget)
        self._writing.shutdown()

    async def _in_writer(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writing, work)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorname not in _TAKEN:
                raise
            raise AlreadyThere from None
        except sqlite3.Error as error:
            raise self._failures.unavailable(error) from None

    # in the writer's thread

    def _connection(self) -> sqlite3.Connection:
        if self._writer is None:
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=BUSY_SECONDS)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            self._writer = connection
        return self._writer

    def _begin(self) -> None:
        self._connection().execute("BEGIN IMMEDIATE")

    def _run(self, sql: str, values: dict[str, Any]) -> list[Row]:
        return self._connection().execute(sql, values).fetchall()

    def _commit(self) -> None:
        connection = self._connection()
        if connection.in_transaction:
            connection.execute("COMMIT")

    def _rollback(self) -> None:
        if self._writer is None or not self._writer.in_transaction:
            return
        try:
            self._writer.execute("ROLLBACK")
        except sqlite3.Error:  # it is of no use any more; the next one begins with a fresh one
            self._forget()

    def _forget(self) -> None:
        if self._writer is not None:
            with suppress(sqlite3.Error):
                self._writer.close()
            self._writer = None


class _Transaction:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def run(self, sql: str, **values: Any) -> Sequence[Row]:
        """See Transaction."""
        return await self._database._in_writer(lambda: self._database._run(sql, values))


def open_sqlite(path: str) -> SqliteDatabase:
    """The database in the file *path*, which is made if there is none, readable by its owner alone."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # SQLite gives its journal files the mode of the database, so that one has to be right first.
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    file.chmod(0o600)
    return SqliteDatabase(file)


def _reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Under WAL it waits for nobody; if it ever must, then briefly."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=0.2
    )
    connection.row_factory = sqlite3.Row
    return connection
