"""Opens a database: a file of SQLite, or one on a Postgres server, as its URL says."""

from chat_broker_kit.database.profile import Profile
from chat_broker_kit.database.transactions import Database
from chat_broker_kit.urls.database import is_sqlite, sqlite_path


async def open_database(url: str, profile: Profile, *, pool: int) -> Database:
    """Open the database at *url* and bring its schema up to date. *pool*: the most connections, of Postgres.

    Raises SchemaTooNew, and what the driver raises if the database cannot be opened.
    """
    if is_sqlite(url):
        from chat_broker_kit.database.sqlite import open_sqlite  # not needed by Postgres

        return await open_sqlite(sqlite_path(url), profile)
    from chat_broker_kit.database.postgres import open_postgres  # loads its driver

    return await open_postgres(url, profile, pool=pool)
