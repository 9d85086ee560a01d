"""Opens the Chat API's database, and defines the errors for one that cannot answer or write."""

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
    """The error for a database that cannot answer now. Logs the reason."""
    log.warning("database.unavailable", store="chat", reason=reason)
    return Unavailable("database_unavailable", "The database cannot answer right now. Try again.")


def not_writable(reason: str) -> Unavailable:
    """The error for a database that answers reads and refuses writes, for example with a full disk. Logs the reason.

    It has a code of its own: a client that took it for a server that is down would stop reading, too.
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
    """The version of the schema at *url*; None for an empty or missing database. Changes nothing. Raises CannotOpenDatabase."""
    return await schema_version(url, MIGRATIONS)


async def open_database(url: str, *, pool: int = 10) -> Database:
    """Open the database at *url* and migrate its schema.

    Raises SchemaTooNew for the schema of a newer version, OSError or an error of the driver if the
    database cannot be opened.
    """
    return await open_with_profile(url, PROFILE, pool=pool)
