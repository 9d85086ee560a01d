"""The database of the Chat API, and what callers hear while it cannot serve."""

import structlog

from chat_broker_kit.database.check import schema_version
from chat_broker_kit.database.open import open_database as open_with_profile
from chat_broker_kit.database.profile import Profile
from chat_broker_kit.database.transactions import Database
from chat_broker_server.database.migrations import MIGRATIONS
from chat_broker_server.database.statistics import STATISTICS
from chat_broker_server.errors import Unavailable

log = structlog.get_logger("chat_broker_server.database.open")


def unavailable(reason: str) -> Unavailable:
    """The caller's answer for a database that cannot serve now; the reason goes to the log."""
    log.warning("database.unavailable", store="chat", reason=reason)
    return Unavailable("database_unavailable", "The database cannot answer right now. Try again.")


def not_writable(reason: str) -> Unavailable:
    """The caller's answer for a write that the database refuses while it answers reads; the reason goes to the log.

    Its own code, because a client must not take it for a server that is down: a full disk would end reading, too.
    """
    log.warning("database.not_writable", store="chat", reason=reason)
    return Unavailable(
        "writes_unavailable", "Nothing can be stored right now; reading goes on. Try again."
    )


PROFILE = Profile(
    store="chat",
    migrations=MIGRATIONS,
    outage=Unavailable,
    unavailable=unavailable,
    not_writable=not_writable,
    statistics=STATISTICS,
)


async def check_database(url: str) -> str | None:
    """The schema's version at *url*, None if there is none yet; changes nothing. Raises CannotOpenDatabase."""
    return await schema_version(url, MIGRATIONS.schema)


async def open_database(url: str, *, pool: int = 10) -> Database:
    """Open the database at *url* and bring its schema up to date.

    Raises SchemaTooNew for a schema of a newer version, and what the driver raises (OSError,
    its own errors) if the database cannot be opened.
    """
    return await open_with_profile(url, PROFILE, pool=pool)
