"""One database behind SQLAlchemy Core: SQLite or Postgres, chosen by the URL alone."""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.state.contract import StateUnavailable

log = structlog.get_logger(__name__)

BUSY_SECONDS = 5
POOL_SECONDS = 2
LOOKUPS_AT_ONCE = 4
"""Of `Database.one` on Postgres. More would open connections in a burst, which costs more than to wait."""


class Database:
    """Transactions on one database. Raises StateUnavailable when it does not answer in time."""

    def __init__(self, engine: AsyncEngine, path: Path | None = None) -> None:
        self.engine = engine
        self._path = path
        self._reader: sqlite3.Connection | None = None
        self._writing = asyncio.Lock()
        self._looking = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._complained_at = -1.0

    @property
    def is_sqlite(self) -> bool:
        """One file, one writer?"""
        return self.engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads."""
        async with self._transaction(writes=False) as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: committed at the end of the block, or not at all.

        On SQLite it begins IMMEDIATE: one that read first and wrote later would fail at once under load.
        IntegrityError passes through, for those who insert and see.
        """
        if not self.is_sqlite:
            async with self._transaction(writes=True) as connection:
                yield connection
            return
        # SQLite lets whoever asks at the right moment go first: some would wait for ever, each with a
        # connection that nobody can read with meanwhile. So writers stand in line before they take one.
        try:
            async with asyncio.timeout(BUSY_SECONDS):
                await self._writing.acquire()
        except TimeoutError as error:
            raise self._unavailable(error) from None
        try:
            async with self._transaction(writes=True) as connection:
                yield connection
        finally:
            self._writing.release()

    @asynccontextmanager
    async def _transaction(self, *, writes: bool) -> AsyncIterator[AsyncConnection]:
        try:
            async with self.engine.connect() as connection:
                await connection.execution_options(writes=writes)
                async with connection.begin():
                    yield connection
        except IntegrityError:
            raise
        except (TimeoutError, SQLAlchemyError, OSError) as error:
            raise self._unavailable(error) from None

    async def one(self, statement: sa.TextClause, parameters: dict[str, Any]) -> Any:
        """The first row of a query that is asked very often and finds by index; None if there is none.

        On SQLite it is answered right here, on the loop's thread: 15 µs, where four trips to
        another thread cost 800.
        """
        if self._path is None:
            try:
                async with asyncio.timeout(POOL_SECONDS):
                    await self._looking.acquire()
                try:
                    async with self.engine.connect() as connection:
                        alone = await connection.execution_options(isolation_level="AUTOCOMMIT")
                        return (await alone.execute(statement, parameters)).first()
                finally:
                    self._looking.release()
            except (TimeoutError, SQLAlchemyError, OSError) as error:
                raise self._unavailable(error) from None
        try:
            if self._reader is None:
                self._reader = _reader(self._path)
            return self._reader.execute(statement.text, parameters).fetchone()
        except sqlite3.Error as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: BaseException) -> StateUnavailable:
        """What to raise for *error*. The log hears of it, though not of each of a thousand alike."""
        # The driver's text may hold the URL, and with it a password.
        origin = error.orig if isinstance(error, DBAPIError) else None
        kind = type(origin or error).__name__
        now = time.monotonic()
        if now >= self._complained_at + 1:
            self._complained_at = now
            log.warning("database.unavailable", error=kind)
        return StateUnavailable(f"the database does not answer: {kind}")

    def close(self) -> None:
        """Let go of what `one` has opened."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    async def check(self) -> None:
        """One question, to see whether it answers."""
        async with self.read() as connection:
            await connection.execute(sa.text("SELECT 1"))


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """The database at *url* (`sqlite:///path` or `postgresql://…`), for as long as the block lasts."""
    path = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else None
    engine = _postgres(url) if path is None else _sqlite(path)
    database = Database(engine, path)
    try:
        yield database
    finally:
        database.close()
        await engine.dispose()


def _reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Under WAL it waits for nobody; if it ever must, then briefly."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=0.2
    )
    connection.row_factory = _named
    return connection


def _named(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> SimpleNamespace:
    names = (column[0] for column in cursor.description)
    return SimpleNamespace(**dict(zip(names, row, strict=True)))


def _sqlite(path: Path) -> AsyncEngine:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # SQLite gives its journal files the mode of the database, so that one has to be right first.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)
    engine = create_async_engine(
        sa.URL.create("sqlite+aiosqlite", database=str(path)),
        connect_args={"timeout": BUSY_SECONDS},
        pool_timeout=POOL_SECONDS,
    )

    @sa.event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres(url: str) -> AsyncEngine:
    parsed = sa.make_url(url)
    query = dict(parsed.query)
    if "sslmode" in query:  # libpq's name; asyncpg calls it ssl
        query["ssl"] = query.pop("sslmode")
    return create_async_engine(
        parsed.set(drivername="postgresql+asyncpg", query=query),
        pool_size=5,
        max_overflow=10,
        pool_timeout=POOL_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "timeout": 2,
            "command_timeout": 5,
            "server_settings": {
                "application_name": "chat-broker",
                "statement_timeout": "5000",
                "lock_timeout": "5000",
                "idle_in_transaction_session_timeout": "10000",
            },
        },
    )
