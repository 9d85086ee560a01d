"""A database in a SQLite file: one writer thread that commits in groups, and reads on the event loop's thread.

Each write transaction begins IMMEDIATE, since one that first reads and then writes fails under load. Transactions that
wait at the same time share one COMMIT, and so one fsync (`synchronous=FULL`: an acknowledged write survives a power
failure). One that fails is undone alone. Callers get their results after the COMMIT, in its order.
"""

import asyncio
import os
import queue
import sqlite3
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from chat_broker_kit.database.groups import Job, write_group
from chat_broker_kit.database.migrations import Migrations, migrate_sqlite
from chat_broker_kit.database.profile import Profile
from chat_broker_kit.database.sqlite_connections import connect, drive, error_name, is_passing
from chat_broker_kit.database.statistics import tell_planner
from chat_broker_kit.database.transactions import Query, Shortcut, Steps, Transaction
from chat_broker_kit.database.write_state import WriteState

T = TypeVar("T")

BUSY_TIMEOUT = 5.0
MAX_GROUP = 256
FULL_GROUP = 64  # with so many jobs, the next ones may wait for the next group
GATHER_SECONDS = 0.005  # limits the wait if turns of the loop are long
MAX_WAITING = 10_000

log = structlog.get_logger(__name__)


class SqliteDatabase:
    """A database in one file."""

    name = "sqlite"

    def __init__(self, path: str, profile: Profile) -> None:
        self._path = path
        self._profile = profile
        self._loop = asyncio.get_running_loop()
        self._reader = connect(path, busy_timeout=1.0)
        self._lenient: sqlite3.Connection | None = None
        self._gathering: list[Job] = []
        self._jobs: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._closed = False
        self._state = WriteState(profile.store, str(Path(path).absolute()))
        self._probes = 0
        self._writer = threading.Thread(
            target=self._write_forever, name=f"{profile.migrations.program}-writer", daemon=True
        )
        self._writer.start()

    async def read(self, transaction: Transaction[T], *, slow: bool = False) -> T:
        """Run queries on this thread, where one by an index takes microseconds.

        All reads in one turn of the loop see the same state, and a write is reported in a later turn.
        """
        if slow:
            return await asyncio.to_thread(self._read_in_thread, transaction)
        return self.read_now(transaction)

    def read_now(self, transaction: Transaction[T]) -> T:
        """`read` without a coroutine, and never slow."""
        if self._closed:
            raise self._profile.unavailable("closed")
        try:
            # One transaction a turn saves the two system calls of a lock for each query.
            if not self._reader.in_transaction:
                self._reader.execute("BEGIN")
                self._loop.call_soon(self._end_turn)
            return drive(self._reader, transaction())
        except sqlite3.Error as error:
            if "decode to UTF-8" in str(error):
                return self._read_leniently(transaction)
            raise self._read_error(error) from None

    async def write(
        self,
        transaction: Transaction[T],
        committed: Callable[[T], None] | None = None,
        *,
        shortcut: Callable[[], Shortcut[T]] | None = None,  # noqa: ARG002 – there is no round trip to save
    ) -> T:
        """Queue a transaction for the writer, and return its result after the COMMIT."""
        if self._closed:
            raise self._profile.unavailable("closed")
        if self._waiting >= MAX_WAITING:
            raise self._profile.not_writable("too many writes are waiting")
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._gathering:
            self._loop.call_soon(self._gather, 0, self._loop.time() + GATHER_SECONDS)
        self._gathering.append(Job(transaction, committed, future))
        self._waiting += 1
        if len(self._gathering) == MAX_GROUP:
            self._hand_over()
        return await future

    def _gather(self, before: int, until: float) -> None:
        """Hand jobs over to the writer after the first turn of the loop that adds none.

        They share a wake-up of the writer, a COMMIT, an fsync, and many of the written pages.
        """
        count = len(self._gathering)
        if before < count < FULL_GROUP and self._loop.time() < until:
            self._loop.call_soon(self._gather, count, until)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._gathering:
            self._jobs.put(self._gathering)
            self._gathering = []

    async def ping(self) -> bool:
        """Read a row, and write an unused number if the last write is too long ago."""

        def read_version() -> Steps[None]:
            yield Query(self._profile.migrations.version_query)

        def probe() -> Steps[None]:
            yield Query(f"PRAGMA user_version = {self._probes}")

        await self.read(read_version)
        if self._state.is_unknown:
            self._probes = 3 - max(self._probes, 1)  # an unchanged page is not written
            try:
                await asyncio.wait_for(self.write(probe), 2)
                self._state.record_commit()
            except TimeoutError:
                self._state.record_refusal("the writer is stuck")
            except self._profile.outage as error:
                self._state.record_refusal(str(error))
        return self._state.is_writable

    async def close(self) -> None:
        """Finish the queued writes, then close the file."""
        if self._closed:
            return
        self._closed = True
        self._hand_over()
        self._jobs.put(None)
        await asyncio.to_thread(self._writer.join)
        # Lets the writer's last callbacks run first.
        await asyncio.sleep(0)
        self._reader.close()
        if self._lenient is not None:
            self._lenient.close()

    def _settle(self, group: list[Job]) -> None:
        """Report the outcomes to the callers, on the event loop and in commit order."""
        self._waiting -= len(group)
        for job in group:
            if job.keep and job.committed is not None:
                try:
                    job.committed(job.result)
                except Exception:  # noqa: BLE001 – the transaction is committed all the same
                    # As text: renderers that show local variables would show messages with them.
                    log.error("database.after_commit_failed", traceback=traceback.format_exc())  # noqa: TRY400 – above
            if job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)

    def _read_error(self, error: sqlite3.Error) -> Exception:
        """The exception for the caller of a failed read."""
        if is_passing(error):
            return self._profile.unavailable(f"{error_name(error)}: {error}")
        return self._profile.broken(error)

    def _write_error(self, error: sqlite3.Error) -> Exception:
        """The exception for the caller of a failed write."""
        if is_passing(error):
            return self._profile.not_writable(f"{error_name(error)}: {error}")
        return self._profile.broken(error)

    # reading

    def _end_turn(self) -> None:
        if self._reader.in_transaction:  # an error may have ended it
            self._reader.execute("COMMIT")

    def _read_leniently(self, transaction: Transaction[T]) -> T:
        """Read invalid UTF-8 with replacement characters, so that a damaged row does not hide others."""
        if self._lenient is None:
            self._lenient = connect(self._path, busy_timeout=1.0)
            self._lenient.text_factory = lambda raw: raw.decode("utf-8", "replace")
        log.warning("database.damaged_text")
        try:
            return drive(self._lenient, transaction())
        except sqlite3.Error as error:
            raise self._read_error(error) from None

    def _read_in_thread(self, transaction: Transaction[T]) -> T:
        try:
            connection = connect(self._path, busy_timeout=1.0)
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            try:
                return drive(connection, transaction())
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self._read_error(error) from None

    # writing, in the writer's thread

    def _write_forever(self) -> None:
        connection: sqlite3.Connection | None = None
        last = False
        while not last:
            group, last = self._next_group()
            connection = self._write_group(connection, group)
            try:
                self._loop.call_soon_threadsafe(self._settle, group)
            except RuntimeError:  # the loop is closed, and no caller waits any more
                break
        if connection is not None:
            connection.close()

    def _next_group(self) -> tuple[list[Job], bool]:
        """The jobs that wait for the writer, and whether they are the last ones."""
        group = self._jobs.get()
        if group is None:
            return [], True
        while len(group) < MAX_GROUP:
            try:
                more = self._jobs.get_nowait()
            except queue.Empty:
                break
            if more is None:
                return group, True
            group += more
        return group, False

    def _write_group(
        self, connection: sqlite3.Connection | None, group: list[Job]
    ) -> sqlite3.Connection | None:
        """Set the outcome of each job. Returns the connection for the next group; None after a failure."""
        if not group:
            return connection
        try:
            if connection is None:
                connection = connect(self._path, busy_timeout=BUSY_TIMEOUT)
            before = connection.total_changes
            write_group(connection, group)
            for job in group:
                if isinstance(job.error, sqlite3.Error):
                    job.error = self._profile.broken(job.error)
            if connection.total_changes != before:
                self._state.record_commit()
        except BaseException as error:  # noqa: BLE001 – raised to all callers of the group
            if isinstance(error, sqlite3.Error) and is_passing(error):
                self._state.record_refusal(error_name(error))
            failure = self._write_error(error) if isinstance(error, sqlite3.Error) else error
            for each in group:
                each.error, each.keep = failure, False
            _close_failed(connection)
            return None
        return connection


async def open_sqlite(path: str, profile: Profile) -> SqliteDatabase:
    """Open or create the file at *path*, readable by its owner only, and upgrade its schema."""
    await asyncio.to_thread(_prepare, path, profile)
    return SqliteDatabase(path, profile)


def _prepare(path: str, profile: Profile) -> None:
    if path != ":memory:":
        file = Path(path)
        if not file.exists():
            # A new folder is private too; an existing one keeps its mode.
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Created with its mode before SQLite writes to it; the -wal and -shm files copy the mode.
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    connection = connect(path, busy_timeout=BUSY_TIMEOUT)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        migrations = profile.migrations
        current = migrations.is_current(_version(connection, migrations))
        if not current and migrate_sqlite(connection, migrations):
            log.info("database.migrated", program=migrations.program, schema=migrations.version)
        if profile.statistics:
            tell_planner(connection, profile.statistics)
    finally:
        connection.close()


def _version(connection: sqlite3.Connection, migrations: Migrations) -> str | None:
    """The schema's version; None if there is no schema yet."""
    try:
        row = connection.execute(migrations.version_query).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return None
    return None if row is None else str(row[0])


def _close_failed(connection: sqlite3.Connection | None) -> None:
    """Close a connection after a failure. The next group opens another one."""
    if connection is not None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.close()
        except sqlite3.Error as error:
            log.warning("database.close_failed", reason=str(error))
