"""One database behind SQLAlchemy Core: SQLite or Postgres, chosen by the URL alone."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.state.contract import StateUnavailable

BUSY_SECONDS = 5
POOL_SECONDS = 2


class Database:
    """Transactions on one database. Raises StateUnavailable when it does not answer in time."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

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
        async with self._transaction(writes=True) as connection:
            yield connection

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
            # The driver's text may hold the URL, and with it a password.
            raise StateUnavailable(f"the database does not answer: {_kind(error)}") from None

    async def check(self) -> None:
        """One question, to see whether it answers."""
        async with self.read() as connection:
            await connection.execute(sa.text("SELECT 1"))


def _kind(error: BaseException) -> str:
    origin = error.orig if isinstance(error, DBAPIError) else None
    return type(origin or error).__name__


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """The database at *url* (`sqlite:///path` or `postgresql://…`), for as long as the block lasts."""
    engine = _sqlite(url) if url.startswith("sqlite") else _postgres(url)
    try:
        yield Database(engine)
    finally:
        await engine.dispose()


def _sqlite(url: str) -> AsyncEngine:
    path = Path(url.removeprefix("sqlite:///"))
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
