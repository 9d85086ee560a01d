"""SQLite behind the seam: one writer thread that commits in groups, reads on the loop's thread, in one transaction a turn.

Every write transaction begins IMMEDIATE, since one that reads first and then writes would fail
under load. Transactions that wait for the writer at the same moment share one COMMIT, and so one
fsync (`synchronous=FULL`: an acknowledged write survives a power cut); one that fails is undone
alone. Callers hear of it after that COMMIT, in its order.
"""

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import structlog

from chat_broker_kit.database.migrations import migrate_sqlite
from chat_broker_kit.database.sqlite import drive
from chat_broker_kit.database.transactions import Query, Steps, Transaction, Undo
from chat_broker_server.database.migrations import MIGRATIONS
from chat_broker_server.database.seam import Shortcut, WriteState, not_writable, unavailable
from chat_broker_server.database.statistics import tell_planner
from chat_broker_server.errors import Unavailable
from chat_broker_server.logs import bug

T = TypeVar("T")

BUSY_TIMEOUT = 5.0
GROUP = 256
ENOUGH = 64  # who comes after that may as well be in the next group
GATHERED_FOR = 0.005  # seconds, for turns that are long
BACKLOG = 10_000

log = structlog.get_logger("chat_broker_server.database.sqlite")


class _Job:
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
            if _is_passing(error) or not connection.in_transaction:
                raise
            self.error, self.kept = error, False
        except BaseException as error:  # noqa: BLE001 – the caller gets it
            self.error, self.kept = error, False
        return self.kept or connection.total_changes == changes


class SqliteDatabase:
    """A database in one file."""

    name = "sqlite"

    def __init__(self, path: str) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._reader = connect(path, busy_timeout=1.0)
        self._lenient: sqlite3.Connection | None = None
        self._gathered: list[_Job] = []
        self._jobs: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._closed = False
        self._state = WriteState("chat", str(Path(path).absolute()))
        self._probes = 0
        self._writer = threading.Thread(target=self._write_forever, name="chat-writer", daemon=True)
        self._writer.start()

    async def read(self, transaction: Transaction[T], *, slow: bool = False) -> T:
        """Run queries on this thread, where one by an index takes microseconds.

        All reads of one turn of the loop see the same state. Whoever is told of a write is told by the loop, behind the
        end of a turn that has not seen it.
        """
        if slow:
            return await asyncio.to_thread(self._read_apart, transaction)
        return self.read_now(transaction)

    def read_now(self, transaction: Transaction[T]) -> T:
        """The same without a coroutine."""
        if self._closed:
            raise unavailable("closed")
        try:
            # Locks are system calls: one pair for a turn, and not for each query.
            if not self._reader.in_transaction:
                self._reader.execute("BEGIN")
                self._loop.call_soon(self._end_turn)
            return drive(self._reader, transaction())
        except sqlite3.Error as error:
            if "decode to UTF-8" in str(error):
                return self._read_leniently(transaction)
            raise _translated(error) from error

    async def write(
        self,
        transaction: Transaction[T],
        committed: Callable[[T], None] | None = None,
        *,
        shortcut: Callable[[], Shortcut[T]] | None = None,  # noqa: ARG002 – no trip is saved here
    ) -> T:
        """Queue it for the writer; answers after the COMMIT that holds it."""
        if self._closed:
            raise unavailable("closed")
        if self._waiting >= BACKLOG:
            raise not_writable("too many writes are waiting")
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._gathered:
            self._loop.call_soon(self._gather, 0, self._loop.time() + GATHERED_FOR)
        self._gathered.append(_Job(transaction, committed, future))
        self._waiting += 1
        if len(self._gathered) == GROUP:
            self._hand_over()
        return await future

    def _gather(self, before: int, until: float) -> None:
        """Hand over what the last turns of the loop have brought, once one brings nothing more.

        All of it shares a wake-up of the writer, a COMMIT, an fsync, and many of the pages that are written.
        """
        there = len(self._gathered)
        if before < there < ENOUGH and self._loop.time() < until:
            self._loop.call_soon(self._gather, there, until)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._gathered:
            self._jobs.put(self._gathered)
            self._gathered = []

    async def ping(self) -> bool:
        """Reads one row; and writes a number that nobody reads, if nobody has written for a while."""

        def nothing() -> Steps[None]:
            yield Query(MIGRATIONS.schema.version_query)

        def probe() -> Steps[None]:
            yield Query(f"PRAGMA user_version = {self._probes}")

        await self.read(nothing)
        if self._state.unknown:
            self._probes = 3 - max(self._probes, 1)  # a page that is the same is not written
            try:
                await asyncio.wait_for(self.write(probe), 2)
                self._state.taken()
            except TimeoutError:
                self._state.refused("the writer is stuck")
            except Unavailable as error:
                self._state.refused(error.code)
        return self._state.good

    async def close(self) -> None:
        """Let the writer finish what is queued, then close the file."""
        if self._closed:
            return
        self._closed = True
        self._hand_over()
        self._jobs.put(None)
        await asyncio.to_thread(self._writer.join)
        # What the writer called back with comes before anybody goes on.
        await asyncio.sleep(0)
        self._reader.close()
        if self._lenient is not None:
            self._lenient.close()

    def _settle(self, group: list[_Job]) -> None:
        """On the loop: tell everybody how it ended, in commit order."""
        self._waiting -= len(group)
        for job in group:
            if job.kept and job.committed is not None:
                try:
                    job.committed(job.answer)
                except Exception:  # noqa: BLE001 – it is committed, whatever the listener makes of it
                    bug(log, "database.after_commit_failed")
            if job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.answer)

    # reading

    def _end_turn(self) -> None:
        if self._reader.in_transaction:  # an error may have ended it
            self._reader.execute("COMMIT")

    def _read_leniently(self, transaction: Transaction[T]) -> T:
        """Read rows whose text is damaged, with marks where letters were: a bad row must not
        hide its neighbours."""
        if self._lenient is None:
            self._lenient = connect(self._path, busy_timeout=1.0)
            self._lenient.text_factory = lambda raw: raw.decode("utf-8", "replace")
        log.warning("database.damaged_text")
        try:
            return drive(self._lenient, transaction())
        except sqlite3.Error as error:
            raise _translated(error) from error

    def _read_apart(self, transaction: Transaction[T]) -> T:
        try:
            connection = connect(self._path, busy_timeout=1.0)
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            try:
                return drive(connection, transaction())
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise _translated(error) from error

    # writing, in the writer's thread

    def _write_forever(self) -> None:
        connection: sqlite3.Connection | None = None
        while True:
            group = self._jobs.get()
            if group is None:
                break
            last = False
            while len(group) < GROUP:
                try:
                    more = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                group += more
            try:
                if connection is None:
                    connection = connect(self._path, busy_timeout=BUSY_TIMEOUT)
                before = connection.total_changes
                _write_group(connection, group)
                if connection.total_changes != before:
                    self._state.taken()
            except BaseException as error:  # noqa: BLE001 – every waiting caller must hear of it
                if isinstance(error, sqlite3.Error) and _is_passing(error):
                    self._state.refused(_name(error))
                failure = _refused(error) if isinstance(error, sqlite3.Error) else error
                for each in group:
                    each.error, each.kept = failure, False
                _abandon(connection)
                connection = None
            try:
                self._loop.call_soon_threadsafe(self._settle, group)
            except RuntimeError:  # the loop is gone, and with it everybody who waited
                break
            if last:
                break
        if connection is not None:
            connection.close()


async def open_sqlite(path: str) -> SqliteDatabase:
    """Open (or make) the file at *path*, readable by its owner alone, with the present schema."""
    await asyncio.to_thread(_prepare, path)
    return SqliteDatabase(path)


def connect(path: str, *, busy_timeout: float) -> sqlite3.Connection:
    """A connection as every part of this program uses it."""
    connection = sqlite3.connect(
        path,
        isolation_level=None,
        timeout=busy_timeout,
        check_same_thread=False,
        cached_statements=256,
    )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -8000")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _prepare(path: str) -> None:
    if path != ":memory:":
        file = Path(path)
        if not file.exists():
            # A folder of ours is private too; one that was there keeps its mode.
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The file exists with its mode before SQLite writes the first byte; the -wal and -shm
            # files copy it.
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    connection = connect(path, busy_timeout=BUSY_TIMEOUT)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        if not MIGRATIONS.is_current(_version(connection)) and migrate_sqlite(
            connection, MIGRATIONS
        ):
            log.info("database.migrated", schema=MIGRATIONS.schema.version)
        tell_planner(connection)
    finally:
        connection.close()


def _version(connection: sqlite3.Connection) -> str | None:
    """The version of the schema, None if there is none yet."""
    try:
        row = connection.execute(MIGRATIONS.schema.version_query).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return None
    return None if row is None else str(row[0])


def _write_group(connection: sqlite3.Connection, group: list[_Job]) -> None:
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


def _abandon(connection: sqlite3.Connection | None) -> None:
    """Give a connection up after a failure: the next group starts from a fresh one."""
    if connection is not None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.close()
        except sqlite3.Error as error:
            log.warning("database.close_failed", reason=str(error))


def _translated(error: sqlite3.Error) -> Exception:
    """What a caller hears of an SQLite error: try again for what passes, else a bug."""
    if _is_passing(error):
        return unavailable(f"{_name(error)}: {error}")
    return error


def _refused(error: sqlite3.Error) -> Exception:
    """What the caller of a write hears of an SQLite error."""
    if _is_passing(error):
        return not_writable(f"{_name(error)}: {error}")
    return error


_PASSING = (
    "BUSY",
    "LOCKED",
    "FULL",
    "READONLY",
    "IOERR",
    "CANTOPEN",
    "NOMEM",
    "CORRUPT",
    "NOTADB",
    "PERM",
)


def _is_passing(error: sqlite3.Error) -> bool:
    """The file is the trouble, not the query: it may be well again later."""
    return _name(error).removeprefix("SQLITE_").startswith(_PASSING)


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or ""
