"""What would keep the broker from running, looked at before it starts."""

from dataclasses import dataclass

from chat_broker.settings import Settings
from chat_broker.storage.migrations import MIGRATIONS
from chat_broker.upstream.chat_api import check_chat_database
from chat_broker_kit.database.check import make_folder, schema_version
from chat_broker_kit.database.failures import CannotOpenDatabase
from chat_broker_kit.urls.database import shown_url


def database_urls(settings: Settings) -> dict[str, str]:
    """The URL of each database that is opened here, by the name of its setting."""
    urls = {"DATABASE_URL": settings.broker_database}
    if settings.embedded:
        urls["CHAT_DATABASE_URL"] = settings.chat_database
    return urls


async def check_database(settings: Settings, name: str) -> str | None:
    """The schema's version behind DATABASE_URL or CHAT_DATABASE_URL, None if there is none yet.

    Changes nothing. Raises CannotOpenDatabase.
    """
    if name == "CHAT_DATABASE_URL":
        return await check_chat_database(settings)
    return await schema_version(settings.broker_database, MIGRATIONS.schema)


def setting_to_mend(settings: Settings, name: str) -> str:
    """*name*, or DATA_DIR where that says where the database is."""
    return name if getattr(settings, name.lower()) is not None else "DATA_DIR"


@dataclass(frozen=True, slots=True)
class Databases:
    """What was found: *problems* as `NAME: what is wrong; what to do`, and where *new* ones will be made."""

    problems: list[str]
    new: list[str]


async def look_at_databases(settings: Settings) -> Databases:
    """Every database that is opened here. Makes DATA_DIR."""
    problems, new = [], []
    for name, url in database_urls(settings).items():
        try:
            if await check_database(settings, name) is None:
                new.append(shown_url(url))
            make_folder(url)
        except CannotOpenDatabase as error:
            problems.append(f"{setting_to_mend(settings, name)}: {error}")
    # One folder that cannot be written to is one problem, for two databases.
    return Databases(list(dict.fromkeys(problems)), new)
