"""Opens the database of a URL: a SQLite file, or one on a Postgres server."""

from chat_broker_kit.database.profile import Profile
from chat_broker_kit.database.transactions import Database
from chat_broker_kit.urls.database import is_sqlite, sqlite_path


async def open_database(url: str, profile: Profile, *, pool: int) -> Database:
    """Open the database at *url*, and upgrade its schema. *pool*: the maximum of connections to Postgres.

    Raises SchemaTooNew, and the driver's errors.
    """
    if is_sqlite(url):
        from chat_broker_kit.database.sqlite import open_sqlite  # not needed by Postgres

        return await open_sqlite(sqlite_path(url), profile)
    from chat_broker_kit.database.postgres import open_postgres  # loads its driver

    return await open_postgres(url, profile, pool=pool)
