"""The broker's database, and the errors that its stores raise while it is unavailable."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from chat_broker.chat.ports import StateUnavailable
from chat_broker.storage.migrations import MIGRATIONS
from chat_broker_kit.database.migrations import SchemaTooNew
from chat_broker_kit.database.open import open_database as open_with_profile
from chat_broker_kit.database.profile import Profile
from chat_broker_kit.database.transactions import Database
from chat_broker_kit.urls.database import is_sqlite, shown_url, sqlite_path

log = structlog.get_logger(__name__)

CONNECTIONS = 15
LOOKUPS_AT_ONCE = 4


class Failures:
    """Translates a database's errors, and logs at most one of them a second."""

    def __init__(self, where: str = "") -> None:
        """*where*: the database's location for the log, without credentials."""
        self._where = where
        self._complained_at = -1.0

    def unavailable(self, reason: str) -> StateUnavailable:
        """The error to raise for *reason*. It names only the kind: the text may contain the URL with its password."""
        kind = reason.partition(":")[0]
        now = time.monotonic()
        if now >= self._complained_at + 1:
            self._complained_at = now
            log.warning("database.unavailable", store="broker", where=self._where, error=kind)
        return StateUnavailable(f"the database does not answer: {kind}")

    def broken(self, error: Exception) -> StateUnavailable:
        """The error to raise for a permanent failure. Callers are refused, as in an outage."""
        return self.unavailable(type(error).__name__)


def profile(where: str) -> Profile:
    """The options with which the database at *where* is opened."""
    failures = Failures(where)
    return Profile(
        store=None,  # `Pulse` logs outages
        migrations=MIGRATIONS,
        outage=StateUnavailable,
        unavailable=failures.unavailable,
        not_writable=failures.unavailable,
        broken=failures.broken,
        lookups_at_once=LOOKUPS_AT_ONCE,
    )


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """The database at *url*, migrated to the present schema, open while the block runs.

    Raises SchemaTooNew, StateUnavailable.
    """
    own = profile(shown_url(url))
    try:
        if is_sqlite(url):
            _make_private(Path(sqlite_path(url)))
        database = await open_with_profile(url, own, pool=CONNECTIONS)
    except SchemaTooNew:
        raise
    except Exception as error:  # noqa: BLE001 - each driver has its own
        raise own.broken(error) from None
    try:
        yield database
    finally:
        await database.close()


def _make_private(file: Path) -> None:
    """A file from a backup may have another mode. SQLite's journals copy it."""
    if file.exists():
        file.chmod(0o600)
