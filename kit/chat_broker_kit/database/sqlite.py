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
GROUP = 256
ENOUGH = 64  # who comes after that may as well be in the next group
GATHERED_FOR = 0.005  # seconds, for turns that are long
BACKLOG = 10_000

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
        self._gathered: list[Job] = []
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

        All reads of one turn of the loop see the same state. Whoever is told of a write is told by the loop, behind the
        end of a turn that has not seen it.
        """
        if slow:
            return await asyncio.to_thread(self._read_apart, transaction)
        return self.read_now(transaction)

    def read_now(self, transaction: Transaction[T]) -> T:
        """The same without a coroutine."""
        if self._closed:
            raise self._profile.unavailable("closed")
        try:
            # Locks are system calls: one pair for a turn, and not for each query.
            if not self._reader.in_transaction:
                self._reader.execute("BEGIN")
                self._loop.call_soon(self._end_turn)
            return drive(self._reader, transaction())
        except sqlite3.Error as error:
            if "decode to UTF-8" in str(error):
                return self._read_leniently(transaction)
            raise self._translated(error) from None

    async def write(
        self,
        transaction: Transaction[T],
        committed: Callable[[T], None] | None = None,
        *,
        shortcut: Callable[[], Shortcut[T]] | None = None,  # noqa: ARG002 – no trip is saved here
    ) -> T:
        """Queue it for the writer; answers after the COMMIT that holds it."""
        if self._closed:
            raise self._profile.unavailable("closed")
        if self._waiting >= BACKLOG:
            raise self._profile.not_writable("too many writes are waiting")
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._gathered:
            self._loop.call_soon(self._gather, 0, self._loop.time() + GATHERED_FOR)
        self._gathered.append(Job(transaction, committed, future))
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
            yield Query(self._profile.migrations.schema.version_query)

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
            except self._profile.outage as error:
                self._state.refused(str(error))
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

    def _settle(self, group: list[Job]) -> None:
        """On the loop: tell everybody how it ended, in commit order."""
        self._waiting -= len(group)
        for job in group:
            if job.kept and job.committed is not None:
                try:
                    job.committed(job.answer)
                except Exception:  # noqa: BLE001 – it is committed, whatever the listener makes of it
                    # As text: renderers that show local variables would show messages with them.
                    log.error("database.after_commit_failed", traceback=traceback.format_exc())  # noqa: TRY400 – above
            if job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.answer)

    def _translated(self, error: sqlite3.Error) -> Exception:
        """What a caller hears of an SQLite error: try again for what passes, else a bug."""
        if is_passing(error):
            return self._profile.unavailable(f"{error_name(error)}: {error}")
        return self._profile.broken(error)

    def _refused(self, error: sqlite3.Error) -> Exception:
        """What the caller of a write hears of an SQLite error."""
        if is_passing(error):
            return self._profile.not_writable(f"{error_name(error)}: {error}")
        return self._profile.broken(error)

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
            raise self._translated(error) from None

    def _read_apart(self, transaction: Transaction[T]) -> T:
        try:
            connection = connect(self._path, busy_timeout=1.0)
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            try:
                return drive(connection, transaction())
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self._translated(error) from None

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
                write_group(connection, group)
                for job in group:
                    if isinstance(job.error, sqlite3.Error):
                        job.error = self._profile.broken(job.error)
                if connection.total_changes != before:
                    self._state.taken()
            except BaseException as error:  # noqa: BLE001 – every waiting caller must hear of it
                if isinstance(error, sqlite3.Error) and is_passing(error):
                    self._state.refused(error_name(error))
                failure = self._refused(error) if isinstance(error, sqlite3.Error) else error
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


async def open_sqlite(path: str, profile: Profile) -> SqliteDatabase:
    """Open (or make) the file at *path*, readable by its owner alone, with the present schema."""
    await asyncio.to_thread(_prepare, path, profile)
    return SqliteDatabase(path, profile)


def _prepare(path: str, profile: Profile) -> None:
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
        migrations = profile.migrations
        current = migrations.is_current(_version(connection, migrations))
        if not current and migrate_sqlite(connection, migrations):
            log.info(
                "database.migrated", program=migrations.program, schema=migrations.schema.version
            )
        if profile.statistics:
            tell_planner(connection, profile.statistics)
    finally:
        connection.close()


def _version(connection: sqlite3.Connection, migrations: Migrations) -> str | None:
    """The version of the schema, None if there is none yet."""
    try:
        row = connection.execute(migrations.schema.version_query).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return None
    return None if row is None else str(row[0])


def _abandon(connection: sqlite3.Connection | None) -> None:
    """Give a connection up after a failure: the next group starts from a fresh one."""
    if connection is not None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.close()
        except sqlite3.Error as error:
            log.warning("database.close_failed", reason=str(error))
