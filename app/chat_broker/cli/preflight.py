"""Checks before the start: whether the databases can be opened."""

from dataclasses import dataclass

from chat_broker.settings import Settings
from chat_broker.storage.migrations import MIGRATIONS
from chat_broker.upstream.chat_api import check_chat_database
from chat_broker_kit.database.check import make_folder, schema_version
from chat_broker_kit.database.failures import CannotOpenDatabase
from chat_broker_kit.urls.database import shown_url


def database_urls(settings: Settings) -> dict[str, str]:
    """The URL of each database that this broker opens, by the name of its setting."""
    urls = {"DATABASE_URL": settings.broker_database}
    if settings.embedded:
        urls["CHAT_DATABASE_URL"] = settings.chat_database
    return urls


async def check_database(settings: Settings, name: str) -> str | None:
    """The schema's version in the database of the setting *name*; None for a new database.

    Changes nothing. Raises CannotOpenDatabase.
    """
    if name == "CHAT_DATABASE_URL":
        return await check_chat_database(settings)
    return await schema_version(settings.broker_database, MIGRATIONS)


def setting_to_mend(settings: Settings, name: str) -> str:
    """The setting that locates the database: *name*, or DATA_DIR if *name* is unset."""
    return name if getattr(settings, name.lower()) is not None else "DATA_DIR"


@dataclass(frozen=True, slots=True)
class Databases:
    """*problems*: each as `NAME: what is wrong; what to do`. *new*: URLs of databases that the start will create."""

    problems: list[str]
    new: list[str]


async def look_at_databases(settings: Settings) -> Databases:
    """Check every database that this broker opens. Creates DATA_DIR."""
    problems, new = [], []
    for name, url in database_urls(settings).items():
        try:
            if await check_database(settings, name) is None:
                new.append(shown_url(url))
            make_folder(url)
        except CannotOpenDatabase as error:
            problems.append(f"{setting_to_mend(settings, name)}: {error}")
    # An unwritable folder of two databases is one problem.
    return Databases(list(dict.fromkeys(problems)), new)
